// What only Linux has: renames that do not replace or that exchange, the clock
// that counts from boot, the names of this boot and of a PID namespace.

package flocklock

import (
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// canExchange says whether two names can be exchanged, on most file systems.
const canExchange = true

// renameNoReplace renames, and fails with fs.ErrExist where newpath exists.
func renameNoReplace(oldpath, newpath string) error {
	return renameat2("rename", oldpath, newpath, unix.RENAME_NOREPLACE)
}

// exchange swaps two names in one step.
func exchange(oldpath, newpath string) error {
	return renameat2("exchange", oldpath, newpath, unix.RENAME_EXCHANGE)
}

func renameat2(op, oldpath, newpath string, flags uint) error {
	err := unix.Renameat2(unix.AT_FDCWD, oldpath, unix.AT_FDCWD, newpath, flags)
	if err != nil {
		return &os.LinkError{Op: op, Old: oldpath, New: newpath, Err: err}
	}
	return nil
}

// sinceBoot is how long this system has been up, as this time namespace sees
// it. /proc/uptime is not asked: lxcfs puts the container's age there, which
// would make a living owner look younger than its record.
func sinceBoot() (time.Duration, bool) {
	var ts unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts) != nil {
		return 0, false
	}
	return time.Duration(ts.Nano()), true
}

// bootID names this boot of this system, and no other.
func bootID() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
}

// pidNamespace is the inode number of the PID namespace, "" where it cannot be
// known. A PID means nothing outside its namespace; see pid_namespaces(7).
func pidNamespace() (string, error) {
	link, err := os.Readlink("/proc/self/ns/pid")
	return strings.TrimSuffix(strings.TrimPrefix(link, "pid:["), "]"), err
}

// processState says whether a process is a zombie or stopped. On Linux
// /proc/PID/stat has told already.
func processState(int) (zombie, stopped bool) { return false, false }
