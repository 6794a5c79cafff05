# SPDX-License-Identifier: MIT
"""The steps on mails that a node delivers, each a Lua script that nothing else comes between.

Who was given a claim shows its token at each further step; ``lost`` means that it is not its own
any more, because it has ended, or its lease had, and another node took it over.
"""

from __future__ import annotations

from typing import Final

from smtpmailer.core.redisvalues import RedisScript
from smtpmailer.stores.redis_lua import CLOCK, NEXT_DUE, OWNED, SCORE, SET_STATE

__all__ = ["ABANDONED", "BURY", "CLAIM", "DONE", "MARK", "RENEW", "REQUEUE", "UNCLAIM"]

#: Seconds that a name may be without a mail before it is dropped: the predecessor takes a mail out
#: of ``queue:`` while it sends it, and puts it back under its name when that fails.
_MISSING: Final = 900

#: The end of the tokens of mails whose lease had ended when they were claimed.
ABANDONED: Final = "!"

#: A claim gives no more mails once it has so many bytes.
_CLAIM_BYTES: Final = 8_388_608

#: Claim mails: those whose leases have ended, then those that are due. Keys: index, due, missing,
#: leases, owners, states, what the keys of waiting and of claimed mails begin with. Words: by when
#: they are due, wall clock, patient, seconds of the lease, how many, token, then names that are to
#: be due earlier and when. Gives when the next mail is due, then four texts for each mail: name,
#: content, state, token; the token is another for those whose lease had ended.
CLAIM: Final = RedisScript(
    f"""{CLOCK}{NEXT_DUE}
local index, due, missing, leases, owners, states, queue, claimed = unpack(KEYS)
local shift = shift_of(ARGV[2])
local by = tonumber(ARGV[1]) + shift
local patient, lease, room, token = ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
for place = 7, #ARGV, 2 do
  local name, at = ARGV[place], tonumber(ARGV[place + 1]) + shift
  local present = call('ZSCORE', due, name)
  if present and present ~= 'inf' and tonumber(present) > at then
    call('ZREM', due, name)
    call('ZADD', due, text(at), name)
  end
end
local bytes, reply = 0, {{''}}
local function give(name, content, token)
  call('ZADD', leases, text(now + lease), name)
  call('HSET', owners, name, token)
  room, bytes = room - 1, bytes + #content
  reply[#reply + 1] = name
  reply[#reply + 1] = content
  reply[#reply + 1] = call('HGET', states, name) or ''
  reply[#reply + 1] = token
end
local function content_of(key)
  -- A key of another type is no mail, and must not stop the others.
  local content = redis.pcall('GET', key)
  return type(content) == 'string' and content
end
-- The predecessor may have such a mail in hand, and put it back.
local function skip(name, member)
  call('ZREM', due, name)
  local since = call('ZSCORE', missing, name)
  if since and now - tonumber(since) > {_MISSING} then
    call('ZREM', missing, name)
    call('ZREM', index, member)
    call('HDEL', states, name)
    return
  end
  if not since then call('ZADD', missing, text(now), name) end
  call('ZADD', due, text(by + (since and 60 or 1)), name)
end
for _, name in ipairs(ended(leases, patient, room)) do
  if bytes > {_CLAIM_BYTES} then break end
  local content = content_of(claimed .. name)
  call('ZREM', leases, name)
  if content then
    give(name, content, token .. '{ABANDONED}')
  else
    call('HDEL', owners, name)
    call('HDEL', states, name)
  end
end
for _, name in ipairs(call('ZRANGEBYSCORE', due, '-inf', text(by), 'LIMIT', 0, room)) do
  if bytes > {_CLAIM_BYTES} then break end
  local member = '"' .. name .. '"'
  local content = content_of(queue .. name)
  if content then
    call('RENAME', queue .. name, claimed .. name)
    call('ZREM', index, member)
    call('ZREM', due, name)
    call('ZREM', missing, name)
    give(name, content, token)
  else
    skip(name, member)
  end
end
reply[1] = next_due(due, leases, patient, shift)
return reply
"""
)

#: Keep the state of a claimed mail, and begin its lease anew. Keys: leases, owners, states.
#: Words: name, token, state, seconds of the lease. Gives ``ok`` or ``lost``.
MARK: Final = RedisScript(
    f"""{CLOCK}{SET_STATE}
local leases, owners, states = unpack(KEYS)
local name, token, state, lease = unpack(ARGV)
{OWNED}
call('ZREM', leases, name)
call('ZADD', leases, text(now + tonumber(lease)), name)
set_state(states, name, state)
return 'ok'
"""
)

#: Let leases end so many seconds from now; they are given up with ``-inf``. Those of claims that
#: others have are left alone. Keys: leases, owners. Words: seconds, then name and token of each.
RENEW: Final = RedisScript(
    f"""{CLOCK}
local leases, owners = unpack(KEYS)
for place = 2, #ARGV, 2 do
  local name, token = ARGV[place], ARGV[place + 1]
  if call('HGET', owners, name) == token then
    call('ZREM', leases, name)
    call('ZADD', leases, text(now + tonumber(ARGV[1])), name)
  end
end
"""
)

#: Remove a claimed mail for good. Keys: claimed:NAME, leases, owners, states. Words: name, token.
#: Gives ``ok`` or ``lost``.
DONE: Final = RedisScript(
    f"""
local call = redis.call
local claimed, leases, owners, states = unpack(KEYS)
local name, token = unpack(ARGV)
{OWNED}
call('DEL', claimed)
call('HDEL', states, name)
finish()
return 'ok'
"""
)

#: Put a claimed mail back into the queue. Keys: claimed:NAME, queue:NAME, index, due, leases,
#: owners, states. Words: name, token, member, content (empty: as it is), state, due, moved, wall
#: clock. Gives ``ok``, ``lost``, or ``gone`` when nothing is left of it.
REQUEUE: Final = RedisScript(
    f"""{CLOCK}{SCORE}{SET_STATE}
local claimed, queue, index, due, leases, owners, states = unpack(KEYS)
local name, token, member, content, state = unpack(ARGV)
{OWNED}
if call('EXISTS', claimed) == 0 then
  call('HDEL', states, name)
  finish()
  return 'gone'
end
if content == '' then
  call('RENAME', claimed, queue)
else
  call('SET', queue, content)
  call('DEL', claimed)
end
call('ZADD', index, 0, member)
call('ZADD', due, score(ARGV[6], ARGV[7], ARGV[8]), name)
set_state(states, name, state)
finish()
return 'ok'
"""
)

#: Undo a claim. Keys: index, due, leases, owners, what the keys of waiting and of claimed mails
#: begin with. Words: its token. Gives the number of mails.
UNCLAIM: Final = RedisScript(
    f"""{CLOCK}
local index, due, leases, owners, queue, claimed = unpack(KEYS)
local entries = call('HGETALL', owners)
local count = 0
for place = 1, #entries, 2 do
  local name, token = entries[place], entries[place + 1]
  if token == ARGV[1] and call('EXISTS', claimed .. name) == 1 then
    call('RENAME', claimed .. name, queue .. name)
    call('ZADD', index, 0, '"' .. name .. '"')
    call('ZADD', due, text(now), name)
    call('ZREM', leases, name)
    call('HDEL', owners, name)
    count = count + 1
  elseif token == ARGV[1] .. '{ABANDONED}' then
    call('ZREM', leases, name)
    call('ZADD', leases, '-inf', name)
    count = count + 1
  end
end
return count
"""
)

#: Move a claimed mail to the dead letters or the quarantine. Where one of its name lies already,
#: both stay, and the new one gets a name of its own. Keys: claimed:NAME, what the keys of those
#: mails begin with, their index, leases, owners, states. Words: name, token, content (empty: as it
#: is), record. Gives ``ok``, ``lost``, or ``gone`` when nothing is left of it.
BURY: Final = RedisScript(
    f"""
local call = redis.call
local claimed, graves, index, leases, owners, states = unpack(KEYS)
local name, token, content, record = unpack(ARGV)
{OWNED}
local present = call('GET', claimed)
if present then
  local free, number = name, 2
  while call('EXISTS', graves .. free) == 1 do
    free, number = string.sub(name, 1, 190) .. 'x' .. number, number + 1
  end
  call('HSET', graves .. free, 'mail', content == '' and present or content, 'record', record)
  call('ZADD', index, 0, '"' .. free .. '"')
end
call('DEL', claimed)
call('HDEL', states, name)
finish()
return present and 'ok' or 'gone'
"""
)
