-- What wrk asks: a chat of about 1 KB, or of as many bytes as its argument says; and what it says at the end: one line of JSON.
wrk.method = "POST"
wrk.path = "/v1/chat/completions"
wrk.headers["content-type"] = "application/json"
wrk.headers["user-agent"] = "OpenAI/Python 2.1.0"

function init(args)
    local size = tonumber(args[1])
    local content = size and string.rep("return 'some code';\\n", math.floor(size / 20)) or string.rep("word ", 180)
    wrk.body = '{"model":"bench","max_tokens":1024,"temperature":0.7,"messages":[{"role":"user","content":"'
        .. content .. '"}]}'
    request_bytes = wrk.format()
end

function request()
    return request_bytes
end

function done(summary, latency, requests)
    local errors = summary.errors
    local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
    io.write(string.format('{"requests":%d,"failed":%d,"p50_us":%d,"p99_us":%d}\n',
        summary.requests, failed, latency:percentile(50), latency:percentile(99)))
end
