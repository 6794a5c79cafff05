# SPDX-License-Identifier: MIT
"""The steps on mails that wait in Redis, each a Lua script that nothing else comes between."""

from __future__ import annotations

from typing import Final

from smtpmailer.core.names import MAX_SECONDS
from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.stores.redis_lua import CLOCK, NEXT_DUE, SCORE, SET_STATE

__all__ = ["LOOK", "PAGE", "PUT", "READ", "REMOVE", "REPLACE", "TAKE_BACK"]

#: Add a mail. Keys: queue:NAME, claimed:NAME, index, due, states. Words: name, member, content,
#: state, due, moved, wall clock. Gives ``ok``, also when just this was put before, or ``taken``.
PUT: Final = RedisScript(
    f"""{CLOCK}{SCORE}{SET_STATE}
local queue, claimed, index, due, states = unpack(KEYS)
local name, member, content, state = unpack(ARGV)
if call('EXISTS', claimed) == 1 then return 'taken' end
local present = call('GET', queue)
if present then
  if present == content and (call('HGET', states, name) or '') == state then return 'ok' end
  return 'taken'
end
call('SET', queue, content)
call('ZADD', index, 0, member)
call('ZADD', due, score(ARGV[5], ARGV[6], ARGV[7]), name)
set_state(states, name, state)
return 'ok'
"""
)

#: Remove a mail again that a put added, if it still waits with that content. Keys: queue:NAME,
#: index, due, states. Words: name, member, content.
TAKE_BACK: Final = RedisScript(
    """
local queue, index, due, states = unpack(KEYS)
if redis.call('GET', queue) ~= ARGV[3] then return 0 end
redis.call('DEL', queue)
redis.call('ZREM', index, ARGV[2])
redis.call('ZREM', due, ARGV[1])
redis.call('HDEL', states, ARGV[1])
return 1
"""
)

#: Read a mail. Keys: queue:NAME, states. Words: name. Gives content and state.
READ: Final = RedisScript(
    "return {redis.call('GET', KEYS[1]), redis.call('HGET', KEYS[2], ARGV[1])}"
)

#: A part of an index, and how much there is in all. Keys: the index. Words: first and last place.
PAGE: Final = RedisScript(
    "return {redis.call('ZCARD', KEYS[1]), redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2])}"
)

#: Give a mail new content and a new name. Keys: queue:OLD, queue:NEW, claimed:NEW, index, due,
#: states, missing. Words: old name, its member, the state that it must have, new name, its member,
#: content, state, due, moved, wall clock. Gives ``ok``, ``gone``, ``taken``, or ``changed`` when
#: the state is another.
REPLACE: Final = RedisScript(
    f"""{CLOCK}{SCORE}{SET_STATE}
local old_queue, queue, claimed, index, due, states, missing = unpack(KEYS)
local old, old_member, expected, name, member, content, state = unpack(ARGV)
if call('EXISTS', old_queue) == 0 then return 'gone' end
if old ~= name and call('EXISTS', queue, claimed) > 0 then return 'taken' end
if (call('HGET', states, old) or '') ~= expected then return 'changed' end
call('SET', queue, content)
if old ~= name then
  call('DEL', old_queue)
  call('ZREM', index, old_member)
  call('ZREM', due, old)
  call('ZREM', missing, old)
  call('HDEL', states, old)
end
call('ZADD', index, 0, member)
call('ZADD', due, score(ARGV[8], ARGV[9], ARGV[10]), name)
set_state(states, name, state)
return 'ok'
"""
)

#: Remove waiting mails, and names in the index that no mail has. Keys: index, due, states, missing,
#: then queue:NAME of each. Words: name and member of each. Gives the number of mails removed.
REMOVE: Final = RedisScript(
    """
local call = redis.call
local index, due, states, missing = unpack(KEYS)
local count = 0
for place = 1, #ARGV / 2 do
  local name, member = ARGV[2 * place - 1], ARGV[2 * place]
  local removed = call('DEL', KEYS[4 + place])
  -- A claimed mail is in neither, and keeps its state.
  if removed + call('ZREM', index, member) > 0 then
    call('ZREM', due, name)
    call('ZREM', missing, name)
    call('HDEL', states, name)
  end
  count = count + removed
end
return count
"""
)

#: Find names that only the index holds, in two parts of it. Keys: index, due, leases. Words: wall
#: clock, patient, how many names to look at in each part, where to begin with names of the present,
#: where with any others. Gives when the next mail is due, and where to go on in both parts; the
#: second is empty when its end was reached.
LOOK: Final = RedisScript(
    f"""{CLOCK}{NEXT_DUE}
local index, due, leases = unpack(KEYS)
local count = tonumber(ARGV[3])
local function adopt(from, upto)
  local members = call('ZRANGEBYLEX', index, from, upto, 'LIMIT', 0, count)
  for _, member in ipairs(members) do
    local name, seconds, fraction = string.match(member, '^"((%d+)%.(%d+)_[a-z0-9]+)"$')
    if name and #name <= 200 and not call('ZSCORE', due, name) then
      local at = math.min(tonumber(seconds .. '.' .. fraction), {MAX_SECONDS})
      -- Without memory it has to wait, and nothing else.
      redis.pcall('ZADD', due, text(at), name)
    end
  end
  if #members == count then return '(' .. members[count] end
  return ''
end
-- What another program puts at once is named after its clock, which may be a little slow or fast.
local present = adopt(ARGV[4], string.format('("%019d', now + 5))
if present == '' then present = string.format('["%019d', now - 5) end
local others = adopt(ARGV[5], '+')
return {{next_due(due, leases, ARGV[2], shift_of(ARGV[1])), present, others}}
"""
)
