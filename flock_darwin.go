// What only macOS has: renames that do not replace or that swap, the name of
// this boot, the state of a process without starting ps(1).

package flocklock

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// renameNoReplace renames, and fails with fs.ErrExist where newpath exists.
func renameNoReplace(oldpath, newpath string) error {
	return renamexNp("rename", oldpath, newpath, unix.RENAME_EXCL)
}

// exchange swaps two names in one step.
func exchange(oldpath, newpath string) error {
	return renamexNp("exchange", oldpath, newpath, unix.RENAME_SWAP)
}

func renamexNp(op, oldpath, newpath string, flags uint32) error {
	if err := unix.RenamexNp(oldpath, newpath, flags); err != nil {
		return &os.LinkError{Op: op, Old: oldpath, New: newpath, Err: err}
	}
	return nil
}

// sinceBoot is how long this system has been up. The kernel moves
// kern.boottime when the clock is set, so the difference stays true.
func sinceBoot() (time.Duration, bool) {
	boot, err := unix.SysctlTimeval("kern.boottime")
	if err != nil {
		return 0, false
	}
	return time.Since(time.Unix(boot.Unix())), true
}

// bootID names this boot of this system, and no other.
func bootID() (string, error) { return unix.Sysctl("kern.bootsessionuuid") }

// pidNamespace is "": macOS has one PID space.
func pidNamespace() (string, error) { return "", nil }

// processState says whether a process is a zombie or stopped. gopsutil would
// start ps(1) for it.
func processState(pid int) (zombie, stopped bool) {
	const sstop, szomb = 4, 5 // sys/proc.h
	info, err := unix.SysctlKinfoProc("kern.proc.pid", pid)
	if err != nil {
		return false, false
	}
	return info.Proc.P_stat == szomb, info.Proc.P_stat == sstop
}
