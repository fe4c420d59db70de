-- Posts the files named on the command line in turn, and prints what came of it as one line of JSON.
local requests, sent = {}, 0

function init(files)
  for index, path in ipairs(files) do
    local file = assert(io.open(path, "rb"))
    requests[index] = wrk.format("POST", nil, {["Content-Type"] = "application/octet-stream"}, file:read("*a"))
    file:close()
  end
end

function request()
  sent = sent + 1
  return requests[(sent - 1) % #requests + 1]
end

function done(summary, latency)
  local failed = summary.errors
  local line = '{"seconds": %.6f, "answers": %d, "failed": %d, "p50_ms": %.3f, "p90_ms": %.3f, "p99_ms": %.3f}\n'
  io.write(line:format(
    summary.duration / 1e6, summary.requests - failed.status,
    failed.status + failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50) / 1e3, latency:percentile(90) / 1e3, latency:percentile(99) / 1e3))
end
