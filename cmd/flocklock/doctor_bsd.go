//go:build darwin || freebsd || dragonfly

package main

import (
	"strings"

	"golang.org/x/sys/unix"
)

// sharedFileSystem names the kind of a file system that is not of this host
// alone; "" is one that is, or is not known.
func sharedFileSystem(path string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return ""
	}
	switch kind := unix.ByteSliceToString(stat.Fstypename[:]); {
	case strings.HasPrefix(kind, "nfs"):
		return "NFS"
	case kind == "smbfs" || kind == "cifs":
		return "SMB"
	case kind == "p9fs":
		return "9p"
	case strings.Contains(kind, "fuse"):
		return "FUSE"
	case kind == "webdav" || kind == "afpfs" || kind == "virtiofs" || kind == "AppleVirtIOFS":
		return kind
	}
	return ""
}
