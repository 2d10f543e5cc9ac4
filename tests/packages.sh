#!/bin/bash
# Installs the packages that the tests need beside cargo and that are missing. They are Debian's,
# installed by apt-get, as root.
set -euo pipefail

# command (or file) = package
needed="
cc=gcc
/usr/include/x86_64-linux-gnu/sys/rseq.h=libc6-dev
python3=python3
perl=perl
dash=dash
busybox=busybox-static
make=make
/usr/bin/git=git
sqlite3=sqlite3
javac=default-jdk-headless
/usr/bin/redis-check-rdb=redis-tools
node=nodejs
umount=mount
fusermount3=fuse3
rsync=rsync
jq=jq
gdb=gdb
eu-readelf=elfutils
readelf=binutils
file=file
strace=strace
setpriv=util-linux
script=bsdutils
vim=vim
findmnt=util-linux
man=man-db
bsdtar=libarchive-tools
cpio=cpio
less=less
pv=pv
timeout=coreutils
zstd=zstd
age=age
gpg=gnupg
gpg-agent=gpg-agent
shellcheck=shellcheck
"
missing=()
for pair in $needed; do
    case ${pair%%=*} in
        /*) [ -e "${pair%%=*}" ] || missing+=("${pair#*=}") ;;
        *) PATH=/usr/sbin:/usr/bin:/sbin:/bin command -v "${pair%%=*}" > /dev/null || missing+=("${pair#*=}") ;;
    esac
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}" > /dev/null
