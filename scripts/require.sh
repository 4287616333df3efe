#!/usr/bin/env bash
# Makes sure that a command exists: require.sh COMMAND DEBIAN-PACKAGE.
# As root on Debian it installs the package; elsewhere it says what to run.
set -euo pipefail

command=$1
package=$2
if command -v "$command" >/dev/null; then
    exit 0
fi
if [[ $EUID -eq 0 && -e /etc/debian_version && $package != cargo ]]; then
    echo "installing $package, because $command is missing" >&2
    export DEBIAN_FRONTEND=noninteractive
    # A fresh image has no package lists.
    apt-cache show "$package" >/dev/null 2>&1 || apt-get -qq update >&2
    apt-get -qq install --yes --no-install-recommends "$package" >&2
    exit 0
fi
case $package in
    cargo) echo "error: $command is missing: install Rust 1.95 or newer with rustup" >&2 ;;
    *) echo "error: $command is missing: sudo apt-get install $package" >&2 ;;
esac
exit 1
