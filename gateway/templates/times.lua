local took_ms = 1000 -- what the answers of this thread took lately

function envoy_on_request(handle)
  local headers = handle:headers()
  local timeout = headers:get("x-timeout-ms")
  if timeout and timeout:match("^%d+$") and #timeout <= 9 then
    headers:replace("x-envoy-upstream-rq-timeout-ms", timeout)
  end
end

function envoy_on_response(handle)
  local headers = handle:headers()
  local status = headers:get(":status")
  if status == "200" then
    local ms = tonumber(headers:get("x-envoy-upstream-service-time"))
    if ms then took_ms = 0.9 * took_ms + 0.1 * ms end
  elseif status == "429" then
    headers:replace("retry-after", tostring(math.max(1, math.ceil(took_ms / 1000))))
  end
end
