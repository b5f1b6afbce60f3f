-- A page of jobs, newest first: walk the smallest index and ask the others.
-- ARGV: cursor or '', jobs at most, entries to look at at most, indexes..., fields of a job...
-- Returns {the cursor of the next page or '', the fields of a job..., ...}; one that is gone meanwhile has none.
local cursor, limit, walk, indexes, fields = take(), take_number(), take_number(), take_list(), take_list()
local sizes = {}
for n, name in ipairs(indexes) do
  indexes[n] = P .. 'ix:' .. name
  sizes[indexes[n]] = redis.call('ZCARD', indexes[n])
end
table.sort(indexes, function(one, other) return sizes[one] < sizes[other] end)
local step = #indexes > 1 and 200 or limit

local function in_all_others(batch)  -- for each id, whether every other index has it
  local is_in = {}
  for at = 1, #batch do is_in[at] = true end
  for n = 2, #indexes do
    for at, score in ipairs(redis.call('ZMSCORE', indexes[n], unpack(batch))) do
      if not score then is_in[at] = false end
    end
  end
  return is_in
end

local page = {''}
for _ = 1, math.ceil(walk / step) do
  local below = cursor == '' and '+' or '(' .. cursor
  local batch = redis.call('ZREVRANGEBYLEX', indexes[1], below, '-', 'LIMIT', 0, step)
  local is_in = #batch > 0 and in_all_others(batch)
  for at, id in ipairs(batch) do
    cursor = id
    if is_in[at] then page[#page + 1] = redis.call('HMGET', job(id), unpack(fields)) end
    if #page > limit then
      page[1] = cursor
      return page
    end
  end
  if #batch < step then return page end
end
page[1] = cursor
return page
