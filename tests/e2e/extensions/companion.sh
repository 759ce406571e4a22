#!/bin/sh
# A toy extension in shell. COMPANION is evaluated after each INVOKE, COMPANION_INIT before the first.
API="http://$AWS_LAMBDA_RUNTIME_API/2020-01-01/extension"
NAME=$(basename "$0")
curl -sS -D "/tmp/$NAME.head" -o "/tmp/$NAME.registered" -X POST -H "Lambda-Extension-Name: $NAME" \
  -d '{"events":["INVOKE","SHUTDOWN"]}' "$API/register" || exit 20
ID=$(tr -d '\r' < "/tmp/$NAME.head" | sed -n 's/^lambda-extension-identifier: //Ip')
eval "$COMPANION_INIT"
while true; do
  EVENT=$(curl -sS -H "Lambda-Extension-Identifier: $ID" "$API/event/next") || exit 21
  echo "companion: $EVENT"
  case "$EVENT" in *SHUTDOWN*) exit 0 ;; esac
  eval "$COMPANION"
done
