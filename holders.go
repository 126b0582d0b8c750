// Who really holds a lock, as the system says and whatever the record says.

package flocklock

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// A Process is one that holds a lock's file, as the system says.
type Process struct {
	// PID as this process sees it; 0: it is in a PID namespace that cannot be
	// seen from here.
	PID int

	// Argv is the program and the words before its first flag, or before the
	// lock's identity where that is one of them; nil where it cannot be read.
	Argv []string
}

// String names the program and the PID. Control characters come out escaped.
func (p Process) String() string {
	pid := "a PID that cannot be seen from here"
	if p.PID != 0 {
		pid = fmt.Sprint("PID ", p.PID)
	}
	return fmt.Sprintf("%s (%s)", program(p.Argv), pid)
}

// holderLooks is how often Holders looks again because it saw nobody: the lock
// may have gone from one process to another meanwhile.
const holderLooks = 3

var errNobodySeen = errors.New("it is held, but by no process that can be seen from here; " +
	"it may be in another PID namespace or on another host")

// Holders names every process that holds the kernel's lock of a name
// ([Status.Name]) exclusively, whether the record names it or not: a child that
// inherited the open file of a parent that died, flock(1), a stranger. An old
// gateway, which holds by its record alone, is not among them. A process that
// only has the file open, or waits for the lock, is not one. The answer may be
// out of date when it arrives.
//
// A lock that is free, or whose file does not exist, has none, without an error.
// With an error there may be more than were returned. It is fs.ErrPermission
// where some processes cannot be looked at, as another user's;
// errors.ErrUnsupported where the system does not tell; fs.ErrInvalid for a
// name that is none; and an *fs.PathError also where the lock is held by nobody
// who can be seen from here.
//
// On Linux it asks /proc, see proc_pid_fdinfo(5). Who is not root cannot look at
// other users' processes, and so gets fs.ErrPermission too when it found all.
//
// Windows (its Restart Manager) and macOS (lsof(8), where that is installed)
// tell who has the file open, not who locks it. A process is the holder there if
// the lock is held and no other has the file open: not while another waits, and
// on macOS for root only. Else nobody is returned, and the error, which is
// errors.ErrUnsupported, names those who have it open.
func (d Dir) Holders(name string) ([]Process, error) {
	if d == "" {
		return nil, errNoDir
	}
	_, hash, ok := splitName(name)
	if !ok || !filepath.IsLocal(name) {
		// It is not repeated: it may be the identity, by mistake.
		return nil, fmt.Errorf("flocklock: the name is not that of a lock: %w", fs.ErrInvalid)
	}
	var found []Process
	var reason error
	path := d.path(name, lockSuffix)
	for range holderLooks {
		done, err := d.probe(name)
		if err == nil {
			return nil, done()
		}
		if !errors.Is(err, errWouldBlock) {
			return nil, err
		}
		found, reason = d.holders(name)
		if len(found) > 0 || reason != nil && !errors.Is(reason, fs.ErrPermission) && !errors.Is(reason, fs.ErrNotExist) {
			break
		}
	}
	for i := range found {
		found[i].Argv = withoutIdentity(found[i].Argv, hash)
	}
	if len(found) == 0 && reason == nil {
		reason = errNobodySeen
	}
	if reason != nil {
		reason = &fs.PathError{Op: "holders", Path: path, Err: reason}
	}
	return found, reason
}

// withoutIdentity returns the words before the one that is the identity, of
// which only the hash is known.
func withoutIdentity(words []string, hash string) []string {
	for i, word := range words {
		if sum := sha256.Sum256([]byte(word)); hex.EncodeToString(sum[:8]) == hash {
			return words[:i]
		}
	}
	return words
}
