#!/usr/bin/env bash
# Plain pages and refused handshakes with curl: status, headers and body.
set -uo pipefail

export LC_ALL=C # lengths count bytes
: "${FRAMELOOP_URL:?start this through tests/interop/run}"
upgrade=(-H 'Connection: Upgrade' -H 'Upgrade: websocket')
version=(-H 'Sec-WebSocket-Version: 13')
key=(-H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==')
handshake=("${upgrade[@]}" "${version[@]}" "${key[@]}")
text='Content-Type: text/plain; charset=utf-8'
passed=0 failed=0 skipped=0

main() {
  page 'plain page' / '/echo' '/ws' '/broadcast'
  page 'health' /healthz 'ok'
  # With --http2 curl offers Upgrade: h2c, which must not change the answer (RFC 9110 section 7.8).
  if curl --version | grep -qw HTTP2; then
    local options=(--http2)
    page 'plain page, HTTP/2 offered' / '/echo' '/ws' '/broadcast'
    page 'health, HTTP/2 offered' /healthz 'ok'
    page 'Socket.IO polling, HTTP/2 offered' '/socket.io/?EIO=4&transport=polling' '"sid":'
    options=()
  else
    skipped=$((skipped + 3))
  fi

  local wanted=("$text" 'Connection: close')
  refused 'unknown path' 404 /no/such/path "${handshake[@]}"
  refused 'path with a slash too many' 404 /ws/ "${handshake[@]}"
  refused 'path in upper case' 404 /WS "${handshake[@]}"
  refused 'path with an escape' 404 /%77s "${handshake[@]}"
  refused 'room name with a space' 404 /ws/chat/a%20b/ "${handshake[@]}"
  refused 'client id that is not a number' 403 /ws/abc "${handshake[@]}"

  refused 'no Host' 400 /ws "${handshake[@]}" -H 'Host:'
  refused 'invalid Host' 400 /ws "${handshake[@]}" -H 'Host: a,b'
  refused 'Connection without the token' 400 /ws -H 'Connection: Upgraded' -H 'Upgrade: websocket' "${version[@]}" "${key[@]}"
  refused 'Connection: keep-alive only' 400 /ws -H 'Connection: keep-alive' -H 'Upgrade: websocket' "${version[@]}" "${key[@]}"
  refused 'no Connection' 400 /ws -H 'Upgrade: websocket' "${version[@]}" "${key[@]}"
  refused 'body' 400 /ws "${handshake[@]}" -X GET --data-binary hello
  refused 'chunked body' 400 /ws "${handshake[@]}" -X GET -H 'Transfer-Encoding: chunked' --data-binary hello
  refused 'no key' 400 /ws "${upgrade[@]}" "${version[@]}"
  refused 'empty key' 400 /ws "${upgrade[@]}" "${version[@]}" -H 'Sec-WebSocket-Key;'
  refused 'key of 15 bytes' 400 /ws "${upgrade[@]}" "${version[@]}" -H 'Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4P'
  refused 'key without padding' 400 /ws "${upgrade[@]}" "${version[@]}" -H 'Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ'
  refused 'two keys' 400 /ws "${handshake[@]}" "${key[@]}"
  refused 'two versions' 400 /ws "${handshake[@]}" "${version[@]}"
  refused 'empty subprotocol list' 400 /ws "${handshake[@]}" -H 'Sec-WebSocket-Protocol: ,'
  refused 'subprotocol that is not a token' 400 /ws "${handshake[@]}" -H 'Sec-WebSocket-Protocol: a/b'
  refused 'subprotocol offered twice' 400 /ws "${handshake[@]}" -H 'Sec-WebSocket-Protocol: a, a'
  refused 'empty extension list' 400 /ws "${handshake[@]}" -H 'Sec-WebSocket-Extensions: ,'
  refused 'malformed extension' 400 /ws "${handshake[@]}" -H 'Sec-WebSocket-Extensions: a;=b'

  wanted=("$text" 'Connection: close' 'Allow: GET')
  local method
  for method in POST PUT PATCH DELETE OPTIONS TRACE get FOO; do
    refused "method $method" 405 /ws "${handshake[@]}" -X "$method"
  done
  refused 'method HEAD' 405 /ws "${handshake[@]}" --head

  wanted=("$text" 'Connection: Upgrade' 'Connection: close' 'Upgrade: websocket' 'Sec-WebSocket-Version: 13')
  refused 'no Upgrade' 426 /ws
  refused 'no Upgrade, with a key' 426 /ws "${version[@]}" "${key[@]}"
  refused 'empty Upgrade' 426 /ws -H 'Connection: Upgrade' -H 'Upgrade;' "${version[@]}" "${key[@]}"
  refused 'Upgrade: h2c' 426 /ws -H 'Connection: Upgrade' -H 'Upgrade: h2c' "${version[@]}" "${key[@]}"
  refused 'Upgrade: websockets' 426 /ws -H 'Connection: Upgrade' -H 'Upgrade: websockets' "${version[@]}" "${key[@]}"
  refused 'HTTP/1.0' 426 /ws "${handshake[@]}" --http1.0
  refused 'no version' 426 /ws "${upgrade[@]}" "${key[@]}"
  local number
  for number in 0 8 12 14 013 '13, 8'; do
    refused "version $number" 426 /ws "${upgrade[@]}" -H "Sec-WebSocket-Version: $number" "${key[@]}"
  done

  echo "$passed passed, $failed failed, $skipped skipped"
  [ "$failed" = 0 ]
}

# page NAME PATH WORD...: status 200, and a body with all the words. `options` may hold more options for curl.
page() {
  local name=$1 path=$2 word faults=()
  shift 2
  request "$path" ${options[@]+"${options[@]}"}
  [ "$status" = 200 ] || faults+=("status $status, expected 200")
  for word in "$@"; do
    [[ $body == *"$word"* ]] || faults+=("no \"$word\" in the body")
  done
  report "$name"
}

# refused NAME STATUS PATH CURL-OPTION...: this status, the headers in `wanted`, the right Content-Length, a body with the reason.
refused() {
  local name=$1 expected=$2 path=$3 header faults=()
  shift 3
  request "$path" "$@"
  [ "$status" = "$expected" ] || faults+=("status $status, expected $expected")
  for header in "${wanted[@]}"; do
    has_header "$header" || faults+=("no header \"$header\"")
  done
  [[ " $* " == *' --head '* ]] || [ -n "$body" ] || faults+=('the body is empty')
  [[ " $* " == *' --head '* ]] || has_header "Content-Length: ${#body}" || faults+=("Content-Length is not ${#body}")
  report "$name"
}

# request PATH CURL-OPTION...: sets status, headers and body.
request() {
  local path=$1 answer
  shift
  # The x keeps the trailing newlines of the body, which $() would strip.
  answer=$(curl --silent --show-error --include --path-as-is --max-time 5 "$@" "$FRAMELOOP_URL$path" 2>&1; echo x)
  answer=${answer%x}
  headers=${answer%%$'\r\n\r\n'*}
  body=${answer#*$'\r\n\r\n'}
  status=$(sed -nE '1s/^HTTP[^ ]* ([0-9]+).*/\1/p' <<<"$headers")
}

# has_header 'NAME: VALUE': the value is the whole header value, or one element of a list.
has_header() {
  local name=${1%%: *} value=${1#*: }
  tr -d '\r' <<<"$headers" | grep -iE "^$name:" | grep -qiE "[:,] *$value *(,|$)"
}

report() {
  if [ ${#faults[@]} = 0 ]; then
    passed=$((passed + 1))
    return
  fi
  failed=$((failed + 1))
  echo "FAILED $1"
  printf '  %s\n' "${faults[@]}"
  tr -d '\r' <<<"$headers" | sed 's/^/  < /'
}

main
