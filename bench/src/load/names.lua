-- Asks for all names in an order that no cache foresees, on all connections in turn.
-- Arguments: how many names, their domain, the path, and the value of `Connection`.

local requests, count, next = {}, 0, 0

function init(arguments)
   count = tonumber(arguments[1])
   local form = "GET %s HTTP/1.1\r\nHost: n-%05d.%s\r\nConnection: %s\r\n\r\n"
   for i = 0, count - 1 do
      requests[i] = string.format(form, arguments[3], i * 7919 % count, arguments[2], arguments[4])
   end
end

function request()
   next = (next + 1) % count
   return requests[next]
end

function done(summary)
   local errors = summary.errors
   local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
   io.write(string.format("\n%d answered, %d failed\n", summary.requests, failed))
end
