package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// fileSystems are the names of the common ones.
var fileSystems = map[uint32]string{
	unix.BTRFS_SUPER_MAGIC:     "btrfs",
	unix.CIFS_SUPER_MAGIC:      "cifs",
	unix.EXT4_SUPER_MAGIC:      "ext4", // or ext2, ext3
	unix.F2FS_SUPER_MAGIC:      "f2fs",
	unix.FUSE_SUPER_MAGIC:      "fuse",
	unix.NFS_SUPER_MAGIC:       "nfs",
	unix.OVERLAYFS_SUPER_MAGIC: "overlayfs",
	unix.RAMFS_MAGIC:           "ramfs",
	unix.SMB2_SUPER_MAGIC:      "smb",
	unix.TMPFS_MAGIC:           "tmpfs",
	unix.V9FS_MAGIC:            "9p",
	unix.XFS_SUPER_MAGIC:       "xfs",
	0x2fc12fc1:                 "zfs",
}

// fileSystem names the file system of a directory.
func fileSystem(dir string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(dir, &stat); err != nil {
		return unknownFileSystem
	}
	magic := uint32(stat.Type)
	if name, known := fileSystems[magic]; known {
		return name
	}
	return fmt.Sprintf("file system %#x", magic)
}

// sleeps says whether no thread of a process runs or wants to.
func sleeps(pid int) (bool, error) {
	paths, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	if err != nil {
		return false, err
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return false, err
		}
		if i := bytes.LastIndexByte(text, ')'); i >= 0 && bytes.HasPrefix(text[i:], []byte(") R")) {
			return false, nil
		}
	}
	return true, nil
}
