// What Windows tells the doctor. It has no modes and owners to look at as Unix
// has; whether files can be made is tried.

package main

import (
	"context"
	"io/fs"
	"path/filepath"

	"golang.org/x/sys/windows"
)

const sameProcessExcludes = true

// sharedFileSystem names the kind of a file system that is not of this host
// alone; "" is one that is, or is not known.
func sharedFileSystem(path string) string {
	root, err := windows.UTF16PtrFromString(filepath.VolumeName(path) + `\`)
	if err == nil && windows.GetDriveType(root) == windows.DRIVE_REMOTE {
		return "a network drive"
	}
	return ""
}

func (d *doctor) modes(context.Context) []finding { return nil }

func (d *doctor) missing(context.Context) []finding { return nil }

func (d *doctor) unreadable() []finding { return nil }

// ownFile reports whether a file belongs to this user; who may not remove it is
// told so.
func ownFile(fs.FileInfo) bool { return true }

// swappable says that nobody can put something else in the place of a directory
// that is in use, which is so here.
func swappable(fs.FileInfo) string { return "" }
