// Who holds a lock, from the descriptors of every process in /proc.

package flocklock

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// holders finds the processes that hold a lock. Threads may have descriptors of
// their own, and a process whose first thread has ended shows them with the
// others only; that costs more, and is asked when nobody was found.
func (d Dir) holders(name string) ([]Process, error) {
	path := d.path(name, lockSuffix)
	s := search{}
	if err := unix.Lstat(path, &s.file); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("/proc cannot be read: %w: %w", errors.ErrUnsupported, err)
	}
	if !s.know(entries) {
		return nil, fmt.Errorf("/proc shows no processes: %w", errors.ErrUnsupported)
	}
	for _, holds := range []func(int) bool{s.holds, s.threadHolds} {
		for _, pid := range s.pids {
			s.look(pid, holds)
		}
		if len(s.found) > 0 {
			break
		}
	}
	return s.found, s.incomplete()
}

// A search is for the processes that hold the lock of one file.
type search struct {
	file  unix.Stat_t
	pids  []string
	found []Process

	strange bool  // the PIDs of /proc are not ours
	hidden  bool  // some processes may not be looked at
	err     error // what else kept one from being looked at
}

// know takes in which processes there are, and reports whether there are any.
func (s *search) know(entries []fs.DirEntry) bool {
	s.hidden = true // by the mount option hidepid, see proc(5): a first process there always is
	for _, entry := range entries {
		if strings.Trim(entry.Name(), "0123456789") == "" {
			s.pids = append(s.pids, entry.Name())
			s.hidden = s.hidden && entry.Name() != "1"
		}
	}
	link, err := os.Readlink("/proc/self")
	s.strange = err != nil || link != strconv.Itoa(os.Getpid())
	return len(s.pids) > 0
}

// incomplete says why there may be more holders than were found.
func (s *search) incomplete() error {
	switch {
	case s.hidden && s.err != nil:
		return fmt.Errorf("some processes cannot be looked at: %w, %w", fs.ErrPermission, s.err)
	case s.hidden:
		return fmt.Errorf("some processes, as other users', cannot be looked at: %w", fs.ErrPermission)
	}
	return s.err
}

// look adds a process to those found if it holds the lock. The process is held
// on to by its directory: its PID may be another's meanwhile, /proc then shows
// nothing in there.
func (s *search) look(pid string, holds func(dir int) bool) {
	dir, err := unix.Open("/proc/"+pid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.note(err)
		return
	}
	defer unix.Close(dir)
	if holds(dir) {
		s.found = append(s.found, Process{s.pid(dir, pid), s.argv(dir)})
	}
}

// note remembers an error that is not the end of the process or of a descriptor.
func (s *search) note(err error) {
	switch {
	case errors.Is(err, fs.ErrPermission):
		s.hidden = true
	case err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ESRCH) && s.err == nil:
		s.err = err
	}
}

// threadHolds reports whether a thread of a process holds the lock.
func (s *search) threadHolds(dir int) bool {
	return s.hasEntry(dir, "task", func(tid string) bool {
		thread, err := unix.Openat(dir, "task/"+tid, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if err != nil {
			s.note(err)
			return false
		}
		defer unix.Close(thread)
		return s.holds(thread)
	})
}

// holds reports whether one of the descriptors of a process or a thread holds
// the lock.
func (s *search) holds(dir int) bool {
	return s.hasEntry(dir, "fd", func(fd string) bool {
		// Asked of /proc alone, so that a file of a server that does not answer
		// stops nobody who looks for another. fdinfo's device is not compared:
		// that of a file on btrfs is not stat's.
		if !s.isPath(dir, fd) || !s.isLocked(dir, fd) {
			return false
		}
		var at unix.Stat_t
		if err := unix.Fstatat(dir, "fd/"+fd, &at, 0); err != nil {
			s.note(err)
			return false
		}
		// The number may have been another file's when it was read as locked.
		return at.Dev == s.file.Dev && at.Ino == s.file.Ino && s.isLocked(dir, fd)
	})
}

// hasEntry reports whether a name in a folder of a process's directory meets a
// condition. It reads the folder in parts, for there may be a million.
func (s *search) hasEntry(dir int, folder string, meets func(name string) bool) bool {
	fd, err := unix.Openat(dir, folder, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		s.note(err)
		return false
	}
	file := os.NewFile(uintptr(fd), folder)
	defer file.Close()
	for {
		names, err := file.Readdirnames(1024)
		for _, name := range names {
			if meets(name) {
				return true
			}
		}
		if err != nil {
			if err != io.EOF {
				s.note(err)
			}
			return false
		}
	}
}

// isPath reports whether a descriptor is of something that has a path: no pipe
// and no socket.
func (s *search) isPath(dir int, fd string) bool {
	var first [1]byte
	n, err := unix.Readlinkat(dir, "fd/"+fd, first[:])
	s.note(err)
	return err == nil && n == 1 && first[0] == '/'
}

// isLocked reports whether a descriptor holds a lock of flock(2), on whatever
// file.
func (s *search) isLocked(dir int, fd string) bool {
	text, err := readAt(dir, "fdinfo/"+fd)
	s.note(err)
	return hasFlock(text)
}

// hasFlock reports whether /proc/PID/fdinfo/FD tells of an exclusive lock of
// flock(2). Its line is that of /proc/locks after "lock:"; see
// proc_pid_fdinfo(5) and proc_locks(5).
func hasFlock(fdinfo []byte) bool {
	for line := range bytes.Lines(fdinfo) {
		if !bytes.HasSuffix(line, []byte("\n")) {
			continue // cut short
		}
		fields := strings.Fields(string(line))
		if len(fields) == 9 && fields[0] == "lock:" && fields[2] == "FLOCK" && fields[4] == "WRITE" {
			return true
		}
	}
	return false
}

// pid is a process's PID as this process sees it. Where /proc is another
// namespace's, that is known of the processes of our own namespace: NSpid of
// proc_pid_status(5) ends with it.
func (s *search) pid(dir int, number string) int {
	if s.strange {
		link := make([]byte, 64)
		n, err := unix.Readlinkat(dir, "ns/pid", link)
		ours, oerr := os.Readlink("/proc/self/ns/pid")
		if err != nil || oerr != nil || string(link[:n]) != ours {
			return 0
		}
		status, _ := readAt(dir, "status")
		number = nsPID(status)
	}
	pid, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return pid
}

// nsPID is the PID of a process in its own namespace, from /proc/PID/status.
func nsPID(status []byte) string {
	for line := range bytes.Lines(status) {
		if fields := strings.Fields(string(line)); len(fields) > 1 && fields[0] == "NSpid:" {
			return fields[len(fields)-1]
		}
	}
	return ""
}

// argv is the program of a process and the words before its first flag.
func (s *search) argv(dir int) []string {
	text, _ := readAt(dir, "cmdline")
	if text = bytes.TrimRight(text, "\x00"); len(text) == 0 {
		return nil
	}
	return withoutFlags(strings.Split(string(text), "\x00"))
}

// readAt reads no more of a file in /proc than a record may have.
func readAt(dir int, name string) ([]byte, error) {
	fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), name)
	defer file.Close()
	return io.ReadAll(io.LimitReader(file, maxRecord))
}
