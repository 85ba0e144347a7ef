-- Send the lines of a file as request bodies, in turn, and print what wrk measured as JSON.
local requests, place = {}, 0

function init(arguments)
  local headers = { ["Content-Type"] = "application/json" }
  for line in io.lines(arguments[1]) do
    requests[#requests + 1] = wrk.format("POST", nil, headers, line)
  end
end

function request()
  place = place % #requests + 1
  return requests[place]
end

function done(summary, latency, _)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  io.write(string.format(
    '{"requests": %d, "failed": %d, "microseconds": %d, "p50": %.1f, "p99": %.1f}\n',
    summary.requests, failed, summary.duration, latency:percentile(50), latency:percentile(99)))
end
