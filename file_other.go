//go:build windows || aix || (solaris && !illumos)

// Where a lock belongs to a process and not to an open file, no child can
// inherit it.

package flocklock

import (
	"errors"
	"io/fs"
	"os"
)

func lockedFile(path string, _ fs.FileInfo) (*os.File, error) {
	return nil, &fs.PathError{Op: "dup", Path: path, Err: errors.ErrUnsupported}
}

// shareLockFile does nothing: there is no descriptor to do it through.
func shareLockFile(string, fs.FileInfo) {}
