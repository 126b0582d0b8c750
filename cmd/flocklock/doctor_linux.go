// What only Linux tells the doctor.

package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sharedFileSystems are those that other hosts, containers or programs may
// serve, by the number that statfs(2) gives.
var sharedFileSystems = map[uint32]string{
	unix.NFS_SUPER_MAGIC:  "NFS",
	unix.SMB_SUPER_MAGIC:  "SMB",
	unix.SMB2_SUPER_MAGIC: "SMB",
	unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.V9FS_MAGIC:       "9p",
	unix.FUSE_SUPER_MAGIC: "FUSE or virtiofs",
	unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.AFS_SUPER_MAGIC:  "AFS",
	unix.AFS_FS_MAGIC:     "AFS",
	unix.CODA_SUPER_MAGIC: "Coda",
	unix.NCP_SUPER_MAGIC:  "NCP",

	unix.OVERLAYFS_SUPER_MAGIC: overlay,
}

// sharedFileSystem names the kind of a file system on which not all processes of
// this host, or others than they, have the same files; "" is any other.
func sharedFileSystem(path string) string {
	var stat unix.Statfs_t
	if err := unix.Statfs(path, &stat); err != nil {
		return ""
	}
	return sharedFileSystems[uint32(stat.Type)]
}

// commandLines are those of the processes that can be seen, by PID.
func commandLines(ctx context.Context) map[int][]string {
	lines := make(map[int][]string)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return lines
	}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		if ctx.Err() != nil {
			break
		}
		text := readSmall("/proc/" + entry.Name() + "/cmdline")
		if text = bytes.TrimRight(text, "\x00"); len(text) > 0 {
			lines[pid] = strings.Split(string(text), "\x00")
		}
	}
	return lines
}

// readSmall reads the beginning of a file; what cannot be read is empty.
func readSmall(path string) []byte {
	const most = 64 << 10
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most))
	if err != nil {
		return nil
	}
	return text
}

// protectedRegular tells of a sticky directory in which the kernel does not let
// one user open for creation what another has made.
func (d *doctor) protectedRegular(context.Context) []finding {
	const otherWritable, groupWritable = 1, 2 // the values of fs.protected_regular
	level, err := strconv.Atoi(strings.TrimSpace(string(readSmall("/proc/sys/fs/protected_regular"))))
	info, statErr := os.Stat(string(d.dir))
	if err != nil || statErr != nil {
		return nil
	}
	mode := info.Mode()
	concerned := level >= otherWritable && mode.Perm()&0o002 != 0 || level >= groupWritable && mode.Perm()&0o020 != 0
	if mode&os.ModeSticky == 0 || !concerned {
		return nil
	}
	return []finding{{
		ID: "protected-regular", Severity: aNote, Path: string(d.dir),
		What: "The directory is sticky and others may write to it, and fs.protected_regular is " + strconv.Itoa(level) + ".",
		Why:  "The kernel refuses to create or open for creation another user's file there. flocklock opens lock files without that; other programs fail.",
		Mend: "HERMES_GATEWAY_LOCK_DIR=DIR, with a DIR of the gateway's user alone.",
	}}
}
