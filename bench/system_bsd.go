//go:build darwin || freebsd

package main

import "golang.org/x/sys/unix"

// fileSystem names the file system of a directory.
func fileSystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return unknownFileSystem
	}
	return unix.ByteSliceToString(stat.Fstypename[:])
}
