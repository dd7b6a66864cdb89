#!/bin/sh
# A root folder like this machine's, with another /content in it, and a command run there:
#     unshare --map-root-user --mount sh machine.sh CONTENT COMMAND ...
# Nothing is left behind: the mounts go with the process.
set -e
content=$1
shift
root=$(dirname "$content")/machine_root
mkdir -p "$root"
mount -t tmpfs tmpfs "$root"
for entry in /* /.[!.]*; do
  name=${entry#/}
  if [ "$name" = content ] || [ ! -e "$entry" ]; then continue
  elif [ -L "$entry" ]; then cp -P "$entry" "$root/"
  elif [ -d "$entry" ]; then mkdir "$root/$name"; mount --rbind "$entry" "$root/$name"
  else touch "$root/$name"; mount --bind "$entry" "$root/$name"
  fi
done
mkdir "$root/content"
mount --bind "$content" "$root/content"
exec chroot "$root" sh -c 'cd /content && exec "$@"' sh "$@"
