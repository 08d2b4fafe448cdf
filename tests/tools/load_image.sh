#!/usr/bin/env bash
# Build the CPU image of this checkout and load it into the cluster that KUBECONFIG names; after a change of the product alone in seconds, for
# layers that the node has are left out. Needs root and debootstrap (k8s/image/README.md).
# usage: load_image.sh NAME:TAG [ARCHIVE]      ARCHIVE: load that one and build nothing
# How the node's containerd is reached, the first that there is: $DELAYLINE_CTR (such as "docker exec -i node ctr -n k8s.io"), the socket
# containerd.sock beside KUBECONFIG, kind, minikube.
set -euo pipefail
cd "$(dirname "$0")/../.."
name=${1:?usage: load_image.sh NAME:TAG [ARCHIVE]}
archive=${2:-}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

socket="$(dirname "${KUBECONFIG:-$HOME/.kube/config}")/containerd.sock"
context=$(kubectl config current-context 2>/dev/null || true)
ctr=${DELAYLINE_CTR:-}
if [ -z "$ctr" ] && [ -S "$socket" ]; then ctr="ctr -a $socket -n k8s.io"; fi
if [ -z "$ctr" ] && [[ "$context" == kind-* ]]; then ctr="docker exec -i ${context#kind-}-control-plane ctr -n k8s.io"; fi

if [ -z "$archive" ]; then
  archive=$work/image.tar
  : > "$work/present"
  # shellcheck disable=SC2086 # a command with its arguments
  [ -z "$ctr" ] || $ctr content ls -q > "$work/present"
  sudo=""
  [ "$(id -u)" = 0 ] || sudo=sudo
  # shellcheck disable=SC2086
  $sudo "${PYTHON:-python3}" k8s/image/build_without_docker.py --variant cpu --reference "$name" --present "$work/present" "$archive"
fi
if [ -n "$ctr" ]; then
  # shellcheck disable=SC2086
  $ctr images import - < "$archive"
elif [ "$context" = minikube ]; then
  minikube image load "$archive"
else
  echo "Error: no way to load an image into the cluster of context '$context': set DELAYLINE_CTR to its node's ctr, or push the image to a registry and set DELAYLINE_TEST_IMAGE." >&2
  exit 1
fi
