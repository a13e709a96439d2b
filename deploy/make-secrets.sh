#!/bin/sh
# Makes the secrets of compose.yaml in the folder secrets/ beside this file, once. Keep a copy of the root token elsewhere.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir secrets || { echo "The folder secrets/ is there already: nothing was changed." >&2; exit 1; }
random() { head -c 32 /dev/urandom | base64 | tr '+/' '-_' | tr -d '=\n'; }
password=$(random)
printf %s "$password" > secrets/database-password
printf 'postgres://tacenda:%s@postgres:5432/tacenda?sslmode=disable' "$password" > secrets/database-url
random > secrets/root-token
# The container's users read them; others cannot enter the folder.
chmod 0444 secrets/*
echo "The secrets are in $(pwd)/secrets"
