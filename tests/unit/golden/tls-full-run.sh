# Runs nginx. When the mounted Secret has changed and nginx accepts its content, the next
# handshake uses the new certificate; otherwise the former one stays in use.
set -u
umask 077
secret=/etc/tls-secret
number=0
seen=
before=/nowhere
server=

# The checked configuration names the files beside it.
accepted() {
  cp /etc/nginx-tls/check.conf "$1/" && rm -f /tmp/check.socket && nginx -e stderr -t -q -c "$1/check.conf"
}

# Loads the mounted Secret atomically: all of its files or none.
load() {
  now=$(readlink "$secret/..data") || return 1
  [ "$now" != "$seen" ] || return 0
  seen=$now
  number=$((number + 1))
  new=/tmp/tls/$number
  mkdir -p "$new" || return 1
  for file in tls.crt tls.key ca.crt; do
    cat "$secret/$now/$file" > "$new/$file" || return 1
  done
  if ! accepted "$new"; then
    echo "tls: the Secret as of $now is refused, what was before stays" >&2
    rm -rf "$new"
    return 1
  fi
  ln -s "$new" "/tmp/tls/next" && mv -T "/tmp/tls/next" "/tmp/tls/current" || return 1
  echo "tls: the Secret as of $now is in use" >&2
  [ -z "$server" ] || cmp -s "$before/ca.crt" "$new/ca.crt" || kill -HUP "$server"
  rm -rf "$before"
  before=$new
}

stop() {
  trap '' TERM QUIT INT
  kill -QUIT "$server"
  wait "$server"
  exit $?
}

rm -rf /tmp/tls /tmp/draining
mkdir -p /tmp/tls
load || exit 1
nginx -e stderr -c /etc/nginx-tls/nginx.conf -g 'daemon off;' &
server=$!
trap stop TERM QUIT INT
while kill -0 "$server" 2> /dev/null; do
  # In the background, so that a signal need not wait for it.
  sleep 2 &
  wait $!
  load || :
done
wait "$server"
exit $?
