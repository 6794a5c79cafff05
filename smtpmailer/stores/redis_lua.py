# SPDX-License-Identifier: MIT
"""What the scripts on a queue in Redis share, and the rules for all of them.

They use what Redis 5 has. All keys of a step are handed to it, but for mails that it finds by
itself in an index: it makes their keys from what those begin with. (With a hash tag in the prefix
they share a slot.)

Redis without memory refuses a script's first write if that one may need some, and later ones no
more. So what adds a mail begins with such a write, and changes nothing then; what moves one on its
way out begins with a removal, and always works.

A mail is under ``queue:`` or under ``claimed:``, never under both, and goes from one to the other
in one step. Every waiting mail is in ``index:queue`` and in ``due``; what only the index names was
put by the predecessor, until it is taken into ``due``. A claim is the name's entry in ``owners``;
``leases`` only says from when on others may take it over.
"""

from __future__ import annotations

from typing import Final

__all__ = ["CLOCK", "NEXT_DUE", "OWNED", "SCORE", "SET_STATE"]

#: ``now`` is Redis's time. ``shift_of`` gives what to add to the times of a node whose clock shows
#: ``wall``: less than two seconds may be the network's delay, and count as none.
CLOCK: Final = """
local call = redis.call
-- Redis 5 and 6 let a script that asks for the time write only so; later ones always do.
if redis.replicate_commands then redis.replicate_commands() end
local time = call('TIME')
local now = tonumber(time[1]) + tonumber(time[2]) / 1000000
local function shift_of(wall)
  local shift = now - tonumber(wall)
  if math.abs(shift) < 2 then return 0 end
  return shift
end
local function text(number) return string.format('%.17g', number) end
"""

#: When a mail is due, by Redis's time. A time in a name is the client's own and counts as it is,
#: unless the node named the mail after its own clock: what is due there is due. A time that the
#: node reckoned (``moved``) is shifted.
SCORE: Final = """
local function score(due, moved, wall)
  if due == 'inf' then return due end
  local at = tonumber(due)
  if moved == '1' then return text(at + shift_of(wall)) end
  if at <= tonumber(wall) then return text(math.min(at, now)) end
  return text(at)
end
"""

#: From when on something can be claimed, by the node's time; empty when nothing ever can. With
#: ``patient`` a lease that has ended is left alone, unless it was given up.
NEXT_DUE: Final = """
local function ended(leases, patient, count)
  local by = patient == '1' and '-inf' or text(now)
  return call('ZRANGEBYSCORE', leases, '-inf', by, 'LIMIT', 0, count)
end
local function next_due(due, leases, patient, shift)
  if #ended(leases, patient, 1) > 0 then return '0' end
  local first = call('ZRANGE', due, 0, 0, 'WITHSCORES')[2]
  if not first or first == 'inf' then return '' end
  return text(tonumber(first) - shift)
end
"""

#: Keep what happened to a mail; nothing is kept for a state that is empty.
SET_STATE: Final = """
local function set_state(states, name, state)
  if state == '' then call('HDEL', states, name) else call('HSET', states, name, state) end
end
"""

#: Go on only for the owner of a claim; ``finish`` ends the claim.
OWNED: Final = """
if call('HGET', owners, name) ~= token then return 'lost' end
local function finish()
  call('ZREM', leases, name)
  call('HDEL', owners, name)
end
"""
