//go:build unix && !linux

package main

import "golang.org/x/sys/unix"

// place renames without replacing, where no one call does.
func place(tmp, path string) error {
	if err := unix.Link(tmp, path); err != nil {
		return err
	}
	return unix.Unlink(tmp)
}
