#!/usr/bin/env bash
# Netty's WebSocket client with its compression, without jzlib, against a running frameloop.
#
# usage: FRAMELOOP_URL=URL tests/interop/netty.sh
#
# Netty and Java come from Debian packages; if they are not available, the last line counts a skipped case.
set -uo pipefail

here=$(cd "$(dirname "$0")" && pwd)
jars=/usr/share/java

java_runs_sources() { command -v java && java --list-modules | grep --quiet '^jdk.compiler@'; } >/dev/null 2>&1

install() {
  local packages=()
  [ -e "$jars/netty-codec-http.jar" ] || packages+=(libnetty-java)
  java_runs_sources || packages+=(default-jdk-headless)
  [ ${#packages[@]} -gt 0 ] || return 0
  local sudo=()
  [ "$(id -u)" = 0 ] || sudo=(sudo --non-interactive)
  command -v apt-get && "${sudo[@]}" sh -c "
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=600 update &&
      apt-get -o DPkg::Lock::Timeout=600 install -y --no-install-recommends ${packages[*]}"
}

if ! install; then
  echo '﹣ netty: libnetty-java or a JDK cannot be installed here'
  echo '0 passed, 0 failed, 1 skipped'
  exit 0
fi
parts=(buffer codec codec-http common handler resolver transport)
class_path=$(printf "$jars/netty-%s.jar:" "${parts[@]}")$jars/jctools-core.jar
exec java -cp "$class_path" "$here/NettyClient.java" "${FRAMELOOP_URL/#http/ws}/echo"
