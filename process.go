// Facts about a PID: whether a process has it, since when, in what state, with
// what command line; and the same of this process, read once.

package flocklock

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// facts is what the system says of a PID at one moment.
type facts struct {
	pid     int
	alive   bool // a process has the PID, and is not a zombie
	zombie  bool
	stopped bool

	// start is when the process began, in the unit of Record.StartTime; nil
	// where it cannot be known.
	start *int64

	// oddName says that the process's name has a blank in it, so that an old
	// gateway will have recorded another field of /proc/PID/stat as its start.
	oddName bool

	// began is start on the wall clock; zero where it cannot be known.
	began time.Time

	// err is why nothing of this could be found out now, where that may be
	// otherwise the next time: no descriptors are left, say.
	err error
}

// examine asks the system about a PID.
func examine(pid int) facts {
	if !exists(pid) {
		return facts{pid: pid}
	}
	f := facts{pid: pid, alive: true}
	if !self().strangeProc {
		f.look()
	}
	return f
}

// startsEqual reports whether a recorded start time is that of a process, and
// whether the two can be compared at all.
func startsEqual(recorded int64, f facts) (equal, comparable bool) {
	if f.start == nil {
		return false, false
	}
	equal, err := f.startIs(recorded)
	return equal, equal || err == nil && !f.oddName
}

// commandLine returns the words of a process's command line; none where they
// cannot be read. An error is one that may not be there the next time.
func commandLine(pid int) ([]string, error) {
	if self().strangeProc {
		return nil, nil
	}
	return words(pid)
}

// passing returns an error that may not be there the next time, and not one
// that says that there is nothing to see.
func passing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) || errors.Is(err, syscall.ESRCH) {
		return nil
	}
	return err
}

// identity is what this process knows of itself.
type identity struct {
	pid        int
	start      *int64
	argv       []string
	host       string
	bootID     string
	pidNS      string
	bootOffset time.Duration

	// strangeProc says that /proc shows another PID namespace than ours, so
	// that its numbers are not ours. It is so in a namespace whose maker did
	// not mount /proc anew.
	strangeProc bool
}

// knownSelf is the identity of this process once it has been read whole.
var knownSelf atomic.Pointer[identity]

// self is the identity of this process. It is read once, unless something
// passing kept a part from being read.
func self() identity {
	if id := knownSelf.Load(); id != nil {
		return *id
	}
	id, err := readSelf()
	if err == nil {
		knownSelf.Store(&id)
	}
	return id
}

func readSelf() (identity, error) {
	id := identity{pid: os.Getpid(), argv: withoutFlags(os.Args)}
	var errs [4]error
	id.bootID, errs[0] = bootID()
	id.pidNS, errs[1] = pidNamespace()
	id.host, errs[2] = os.Hostname()
	errs[3] = id.readProcess()
	for i := range errs {
		errs[i] = passing(errs[i])
	}
	return id, errors.Join(errs[:]...)
}

// withoutFlags returns the program and the words before its first flag. What
// follows may hold secrets and is never written down.
func withoutFlags(args []string) []string {
	const maxWords, maxBytes = 8, 1024
	words := []string{}
	for i, arg := range args {
		if i > 0 && strings.HasPrefix(arg, "-") || len(words) == maxWords {
			break
		}
		if len(arg) > maxBytes {
			arg = arg[:maxBytes]
		}
		words = append(words, strings.ToValidUTF8(arg, "\uFFFD"))
	}
	return words
}

// withoutSecret returns the words before the one that is, or has in it, an
// identity that was given to the program without a flag.
func withoutSecret(words []string, secret string) []string {
	const telling = 8 // a shorter identity is part of a word by chance
	for i, word := range words {
		if word == secret || len(secret) >= telling && strings.Contains(word, secret) {
			return words[:i]
		}
	}
	return words
}
