package main

import "golang.org/x/sys/unix"

// place renames without replacing.
func place(tmp, path string) error {
	return unix.Renameat2(unix.AT_FDCWD, tmp, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
}
