#!/bin/sh
# Starts MariaDB on /data with the arguments given; makes the system tables where there are none.
# The sockets and what is sorted go to /tmp, which is to be mounted.
set -eu

if ! [ -f /data/ready ]; then
  # A first start that was cut short is done over.
  rm -rf /data/tables
  mariadb-install-db --no-defaults --datadir=/data/tables --auth-root-authentication-method=normal \
    --skip-test-db --skip-name-resolve >/dev/null
  touch /data/ready
fi
exec mariadbd --no-defaults --datadir=/data/tables --socket=/tmp/mariadb.sock --tmpdir=/tmp \
  --pid-file=/tmp/mariadb.pid "$@"
