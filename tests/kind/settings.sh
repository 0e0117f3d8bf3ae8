# Sourced by every script of this folder: names, places, ports, versions, and how they speak. Each setting can be given in the environment.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
kind_folder=$repository/tests/kind
cache=${DISTILLERY_CACHE:-$HOME/.cache/distillery}
cluster=${CLUSTER_NAME:-distillery}
s3_port=${S3_PORT:-19000}               # host ports, on 127.0.0.1 only
registry_port=${REGISTRY_PORT:-5001}
registry=${IMAGE_REGISTRY:-localhost:$registry_port/distillery}
base_image=${BASE_IMAGE:-debian:bookworm-slim}
logs=$cache/logs/$cluster

KUBERNETES=v1.37.2
KIND=$(awk '$1 == "sigs.k8s.io/kind" && NF > 1 {print $2}' "$kind_folder/programs/go.mod")
CRICTL=v1.37.0
CONTAINERD=v2.4.2
LOCAL_PATH=v0.0.30
ETCD=v3.7.0                             # this and CoreDNS: the versions that kubeadm names (`kubeadm config images list`)
COREDNS=v1.14.6

bin=$cache/bin
node_bin=$cache/node-programs           # apart: dockerd, were it to find a node's containerd-shim on its PATH, would start that one
PATH=$bin:$PATH
mkdir -p "$bin" "$node_bin" "$logs"
existing_cluster=${CLUSTER:-}           # "existing": KUBECONFIG names a cluster that is used as it is, never created or deleted
users_kubeconfig=${USERS_KUBECONFIG:-${KUBECONFIG:-$HOME/.kube/config}}
[ "$existing_cluster" = existing ] || export USERS_KUBECONFIG=$users_kubeconfig KUBECONFIG=$cache/kubeconfig-$cluster

say() { printf '%s  %s\n' "$(date +%T)" "$*" >&2; }
die() { printf '\nFAILED  %s\n' "$*" >&2; exit 1; }

# step TITLE REMEDY COMMAND...: run a command with its output in a log; where it fails, say what failed, where its log is and what to do.
step() {
  local title=$1 remedy=$2 log=$logs/${1//[^a-z0-9]/-}.log began=$SECONDS
  shift 2
  say "$title"
  "$@" >"$log" 2>&1 </dev/null && { say "$title: done in $((SECONDS - began)) s"; return; }
  tail -n 20 "$log" | sed 's/^/    /' >&2
  die "$title"$'\n'"  log:     $log"$'\n'"  remedy:  $remedy"
}

# need_disk GIB WHAT-FOR: stop before a heavy step fills the disk.
need_disk() {
  local free
  free=$(df --output=avail -B1G "$cache" | tail -n 1 | tr -d ' ')
  [ "$free" -ge "$1" ] || die "$2 needs $1 GiB free under $cache, $free GiB are there
  remedy:  free some space, or set DISTILLERY_CACHE to a folder on a larger disk; what can go: \`go clean -cache -modcache\` (10 GiB, made anew when
           needed), \`docker image prune\`, $cache/registry (images are pushed anew)"
}

# need PROGRAM:PACKAGE...: install missing programs by their Debian package, as root; without root, say what to install.
need() {
  local missing="" program
  for program in "$@"; do command -v "${program%:*}" >/dev/null || missing+=" ${program#*:}"; done
  [ -n "$missing" ] || return 0
  [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || die "missing programs; install these packages:$missing"
  # shellcheck disable=SC2086  # a list of packages
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing; } >"$logs/apt.log" 2>&1 ||
    { tail -n 10 "$logs/apt.log" >&2; die "apt-get install$missing
  log:     $logs/apt.log
  remedy:  install these packages by hand, then run this again"; }
}

need_go() {
  command -v go >/dev/null || [ ! -x /usr/local/go/bin/go ] || PATH=$PATH:/usr/local/go/bin
  command -v go >/dev/null || die "Go is not installed; it builds $1
  remedy:  install Go 1.26.6 or later (https://go.dev/dl; Debian 12's own golang is too old) and put it on PATH"
}

in_registry() { # IMAGE
  local path=${1#*/}
  case $1 in
    localhost:*) curl -fsS -o /dev/null -H 'Accept: application/vnd.docker.distribution.manifest.v2+json' \
      "http://${1%%/*}/v2/${path%:*}/manifests/${path##*:}" 2>/dev/null ;;
    *) docker manifest inspect "$1" >/dev/null 2>&1 ;;
  esac
}

node_names() { docker ps -a --filter "label=io.x-k8s.kind.cluster=$cluster" --format '{{.Names}}'; }
