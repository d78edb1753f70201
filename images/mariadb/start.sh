#!/bin/sh
# Starts MariaDB on /data with the given arguments; creates the system tables if there are none.
# Sockets and temporary files are in /tmp, which must be mounted.
set -eu

if ! [ -f /data/ready ]; then
  # An interrupted first start is repeated.
  rm -rf /data/tables
  mariadb-install-db --no-defaults --datadir=/data/tables --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve >/dev/null
  touch /data/ready
fi
exec mariadbd --no-defaults --datadir=/data/tables --socket=/tmp/mariadb.sock --tmpdir=/tmp \
  --pid-file=/tmp/mariadb.pid "$@"
