#!/bin/sh
# Print a Secret with new credentials for the store and its clients.
# usage: sh k8s/minio/secret.sh [NAME] | kubectl create -f -      (`create`, not `apply`: it refuses to replace what the store was made with)
set -eu
word() { od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'; }
cat <<MANIFEST
apiVersion: v1
kind: Secret
metadata:
  name: ${1:-store-credentials}
  labels: {app.kubernetes.io/name: store, app.kubernetes.io/part-of: delayline}
stringData:
  AWS_ACCESS_KEY_ID: "$(word 10)"
  AWS_SECRET_ACCESS_KEY: "$(word 24)"
MANIFEST
