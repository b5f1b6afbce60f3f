-- What every script of the job store uses. Prepended to each of them.
-- Scripts touch ids, states, numbers and times only; params, results, errors, artifacts are opaque strings.
-- Keys are computed from ids, so the store needs one Redis, not a Redis Cluster. Commands of Redis 6.2 only.

local P = 'tf:'
local STREAM_LENGTH = 10000           -- events kept per job
local STREAM_AFTER_END_S = 24 * 3600  -- and for how long after its end
local LATE_WRITES_MS = 60 * 1000      -- until nobody without a lease writes files any more: then leftovers go
local argv_at = 0

local function take()  -- the next argument
  argv_at = argv_at + 1
  return ARGV[argv_at]
end

local function take_number() return tonumber(take()) end

local function take_list()  -- a count, then that many arguments
  local list = {}
  for i = 1, take_number() do list[i] = take() end
  return list
end

local function now_ms()
  local t = redis.call('TIME')
  return t[1] * 1000 + math.floor(t[2] / 1000)
end

local NOW = now_ms()

local function job(id) return P .. 'job:' .. id end
local function get(id, field) return redis.call('HGET', job(id), field) end
local function number(id, field) return tonumber(get(id, field) or '0') or 0 end
local function set(id, ...) redis.call('HSET', job(id), ...) end
local function unset(id, ...) redis.call('HDEL', job(id), ...) end

local function event(id, kind, data)  -- one entry of the job's stream
  redis.call('XADD', P .. 'events:' .. id, 'MAXLEN', STREAM_LENGTH, '*',
    't', kind, 'a', get(id, 'attempt') or '0', 'd', data)
end

local function count(what, n) redis.call('HINCRBY', P .. 'counters', what, n or 1) end

-- One observation of a histogram of seconds: how many fell under each bound but not the one before, and their sum.
local BOUNDS_S = {'0.1', '0.5', '1', '2.5', '5', '10', '30', '60', '300', '1800', '3600', '14400', '86400', '604800'}
local function observe(what, id, ms)
  local under = '+Inf'
  for _, bound in ipairs(BOUNDS_S) do
    if ms <= bound * 1000 then
      under = bound
      break
    end
  end
  local labels = get(id, 'pool') .. '|' .. get(id, 'kind')
  count(what .. '|' .. labels .. '|' .. under)
  count(what .. '_ms|' .. labels, ms)
end

local function is_final(state) return state == 'succeeded' or state == 'failed' or state == 'cancelled' end

local function to_state(id, state)
  local from, owner = get(id, 'state'), get(id, 'owner')
  if from then redis.call('ZREM', P .. 'ix:state:' .. from, id) end
  redis.call('ZADD', P .. 'ix:state:' .. state, 0, id)
  set(id, 'state', state)
  if is_final(state) then
    redis.call('ZREM', P .. 'ix:unfinished:' .. owner, id)
  else
    redis.call('ZADD', P .. 'ix:unfinished:' .. owner, 0, id)
  end
  if from ~= state then event(id, 'state', state) end
end

-- Crockford base32; `width` digits of a whole number.
local function base32(value, width)
  local digits, out = '0123456789ABCDEFGHJKMNPQRSTVWXYZ', ''
  for _ = 1, width do
    local d = value % 32
    out = string.sub(digits, d + 1, d + 1) .. out
    value = (value - d) / 32
  end
  return out
end

-- A ULID: 10 digits of time, 3 that count within the millisecond, 13 random ones from the caller. Ids sort by
-- creation even when the clock steps back.
local function new_id(entropy)
  local last = redis.call('HMGET', P .. 'clock', 'ms', 'count')
  local ms, count = tonumber(last[1] or '0'), tonumber(last[2] or '0')
  if NOW > ms then ms, count = NOW, 0 else count = count + 1 end
  if count >= 32768 then ms, count = ms + 1, 0 end
  redis.call('HSET', P .. 'clock', 'ms', ms, 'count', count)
  return base32(ms, 10) .. base32(count, 3) .. entropy
end

-- The Celery message of the next attempt goes to the pool's list, made from its kind's template. Each push has a
-- number of its own, larger than all before it in that list: by it the reconciler sees that a message is gone.
local function push(id)
  local list = get(id, 'list')
  local publish = redis.call('INCR', P .. 'publish:' .. list)
  local attempt = number(id, 'attempt') + 1
  local message = redis.call('HGET', P .. 'templates', get(id, 'template'))
  message = string.gsub(message, 'TENFOLD_JOB_ID', id)
  message = string.gsub(message, 'TENFOLD_ATTEMPT', attempt)
  message = string.gsub(message, 'TENFOLD_PUBLISH', publish)
  local trace = get(id, 'traceparent')
  if trace then message = string.gsub(message, 'TENFOLD_TRACE', trace) end
  redis.call('LPUSH', list, message)
  redis.call('ZADD', P .. 'published:' .. list, publish, id)
  redis.call('SADD', P .. 'lists', list)
  unset(id, 'missing_ms', 'due_ms')
end

local function delay(id, due_ms)  -- its message is pushed when its time comes
  set(id, 'due_ms', due_ms)
  redis.call('ZADD', P .. 'delayed', due_ms, id)
end

local function enqueue(id, due_ms)  -- it waits for a worker from `due_ms` on; 0: now
  local from_ms = math.max(NOW, due_ms)
  to_state(id, 'queued')
  set(id, 'queued_ms', from_ms)
  redis.call('ZADD', P .. 'queued:' .. get(id, 'pool'), from_ms, id)
  if due_ms > NOW then delay(id, due_ms) else push(id) end
end

-- Take a job out of whatever its unfinished state keeps it in.
local function leave(id)
  local state, pool = get(id, 'state'), get(id, 'pool')
  if state == 'running' then
    local held_ms = math.max(0, NOW - number(id, 'claimed_ms'))
    set(id, 'ran_ms', number(id, 'ran_ms') + held_ms)
    redis.call('ZREM', P .. 'leases', id)
    redis.call('ZREM', P .. 'running:' .. pool, id)
    redis.call('SREM', P .. 'held:' .. get(id, 'worker'), id)
    unset(id, 'claim', 'claimed_ms', 'deadline_ms', 'hand_back', 'pid')
  elseif state == 'queued' then
    set(id, 'waited_ms', number(id, 'waited_ms') + math.max(0, NOW - number(id, 'queued_ms')))
    redis.call('ZREM', P .. 'queued:' .. pool, id)
    redis.call('ZREM', P .. 'published:' .. get(id, 'list'), id)
    redis.call('ZREM', P .. 'delayed', id)
    unset(id, 'queued_ms', 'missing_ms', 'due_ms')
  elseif state == 'blocked' then
    for _, other in ipairs(redis.call('SMEMBERS', P .. 'waiting:' .. id)) do
      redis.call('SREM', P .. 'dependants:' .. other, id)
    end
    redis.call('DEL', P .. 'waiting:' .. id)
  end
end

-- The end of one job: final state, error, counters, and the note that its files want a committed.json and a clean-up.
local function close(id, state, error_type, error_message, error_retryable)
  leave(id)
  set(id, 'finished_ms', NOW)
  if error_type then
    set(id, 'error_type', error_type, 'error_message', error_message, 'error_retryable', error_retryable or '0')
  end
  to_state(id, state)
  redis.call('ZADD', P .. 'finished', NOW, id)
  redis.call('SADD', P .. 'uncommitted', id)
  if number(id, 'attempt') > 0 then redis.call('ZADD', P .. 'untidy', NOW + LATE_WRITES_MS, id) end
  redis.call('EXPIRE', P .. 'events:' .. id, STREAM_AFTER_END_S)
  redis.call('EXPIRE', P .. 'log:' .. id, STREAM_AFTER_END_S)
  count('finished|' .. get(id, 'kind') .. '|' .. state .. '|' .. (error_type or ''))
  if number(id, 'attempt') > 0 then observe('run', id, number(id, 'ran_ms')) end
end

local function release(id, succeeded)  -- `id` waits for one job less
  redis.call('SREM', P .. 'waiting:' .. id, succeeded)
  if redis.call('SCARD', P .. 'waiting:' .. id) == 0 then enqueue(id, 0) end
end

-- The end of a job and what it means for those that wait for it: a success releases them, oldest first; any other end
-- fails them, and those that wait for them. A list, because a recursion would overflow with a long chain.
local function finish(id, state, error_type, error_message, error_retryable)
  close(id, state, error_type, error_message, error_retryable)
  local ended = {{id, state}}
  while #ended > 0 do
    local needed, how = unpack(table.remove(ended))
    local dependants = redis.call('SMEMBERS', P .. 'dependants:' .. needed)
    redis.call('DEL', P .. 'dependants:' .. needed)
    table.sort(dependants)
    for _, other in ipairs(dependants) do
      if how == 'succeeded' then
        release(other, needed)
      elseif get(other, 'state') == 'blocked' then
        close(other, 'failed', 'dependency_failed', 'job ' .. needed .. ', whose artifact this job needs, ' ..
          (how == 'failed' and 'failed' or 'was cancelled'))
        ended[#ended + 1] = {other, 'failed'}
      end
    end
  end
end

-- May the holder of (attempt, claim) still write?
local function holds(id, attempt, claim)
  return get(id, 'state') == 'running' and get(id, 'claim') == claim and get(id, 'attempt') == attempt
end

local function is_overtime(id)
  local deadline = number(id, 'deadline_ms')
  return deadline > 0 and NOW > deadline
end

-- What a worker must know at once: cancel requested, hand back requested, running time used up.
local function flags(id)
  return {
    get(id, 'cancel_requested_ms') and 1 or 0,
    get(id, 'hand_back') and 1 or 0,
    is_overtime(id) and 1 or 0,
  }
end

local function fail_overtime(id)
  finish(id, 'failed', 'timeout', 'the job ran longer than its timeout_s of ' .. number(id, 'timeout_ms') / 1000 ..
    ' s; submit it with a larger one, or retry to go on from its last checkpoint', '1')
end
