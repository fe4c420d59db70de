-- Posts the files named on the command line in turn, and prints what came of it as one line of JSON. The first argument
-- is the field of the form that carries a file; if it is empty, the file is the body.
local requests, sent = {}, 0
local binary, boundary = "application/octet-stream", "a-line-that-no-picture-has"

local function form(field, content)
  local head = 'Content-Disposition: form-data; name="%s"; filename="picture"\r\nContent-Type: %s'
  local part = head:format(field, binary) .. "\r\n\r\n" .. content
  return "--" .. boundary .. "\r\n" .. part .. "\r\n--" .. boundary .. "--\r\n"
end

function init(arguments)
  local field = arguments[1]
  for index = 2, #arguments do
    local file = assert(io.open(arguments[index], "rb"))
    local kind, body = binary, file:read("*a")
    file:close()
    if field ~= "" then
      kind, body = "multipart/form-data; boundary=" .. boundary, form(field, body)
    end
    requests[index - 1] = wrk.format("POST", nil, {["Content-Type"] = kind}, body)
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
