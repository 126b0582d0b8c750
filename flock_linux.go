// What only Linux has: renames that do not replace or that exchange, the clock
// that counts from boot, the names of this boot and of a PID namespace, and
// handles of processes, which are pidfds.

package flocklock

import (
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

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

// A handle is one process, whoever gets its PID later: to wait for its end, to
// ask it to end, and to end it. The zero handle, and that of a process of which
// none can be had, waits for the time only.
type handle struct {
	open bool
	fd   int
}

// openHandle returns a handle of the process that has a PID now; see
// pidfd_open(2), which Linux has since 5.3.
func openHandle(pid int) handle {
	fd, err := unix.PidfdOpen(pid, 0)
	return handle{err == nil, fd}
}

// ended waits for a while, and reports whether the process has ended.
func (h handle) ended(d time.Duration) bool {
	n, _ := unix.Poll([]unix.PollFd{{Fd: int32(h.fd), Events: unix.POLLIN}}, int(d.Milliseconds()))
	if n < 0 {
		time.Sleep(lookAgain) // interrupted; an error that stays must not make this spin
	}
	return n > 0
}

func (h handle) signal(sig unix.Signal) error { return unix.PidfdSendSignal(h.fd, sig, nil, 0) }

func (h handle) close() {
	if h.open {
		unix.Close(h.fd)
	}
}

// userOf returns the user that a process acts for.
func userOf(pid int) (string, error) {
	info, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return "", err
	}
	return userName(info.Sys().(*syscall.Stat_t).Uid), nil
}

// userName names a user as userOf does.
func userName(uid uint32) string { return strconv.Itoa(int(uid)) }
