// The drop-in for the old gateways' acquire_scoped_lock and its companions, and
// the directory that they use.

package flocklock

import (
	"errors"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
)

// DefaultDir is the directory that the old gateways use:
// $HERMES_GATEWAY_LOCK_DIR where that is not empty, else
// hermes/gateway-locks below $XDG_STATE_HOME, else below ~/.local/state. It is
// absolute; nothing is created.
//
// An XDG_STATE_HOME that is empty or relative is ignored, as the XDG Base
// Directory Specification demands. Old gateways took it verbatim and so used
// another directory; DefaultDir warns of that through slog.Default.
//
// A gateway that runs as a service and one that is started from a shell exclude
// each other only if this gives the same directory for both. Where HOME, sudo
// or XDG_STATE_HOME may differ, set HERMES_GATEWAY_LOCK_DIR for both.
func DefaultDir() (Dir, error) {
	if dir := os.Getenv("HERMES_GATEWAY_LOCK_DIR"); dir != "" {
		abs, err := filepath.Abs(dir)
		return Dir(abs), err
	}
	state, set := os.LookupEnv("XDG_STATE_HOME")
	if !filepath.IsAbs(state) {
		if set {
			slog.Warn("flocklock: XDG_STATE_HOME is not an absolute path and is ignored; "+
				"old gateways take it for a path below their working directory", "XDG_STATE_HOME", state)
		}
		home, err := homeDir()
		if err != nil {
			return "", err
		}
		state = filepath.Join(home, ".local", "state")
	}
	return Dir(filepath.Join(state, "hermes", "gateway-locks")), nil
}

// homeDir is the user's home as the old gateways find it: where the environment
// does not say, as for some services, the user database does.
func homeDir() (string, error) {
	home, err := os.UserHomeDir()
	if err == nil && filepath.IsAbs(home) {
		return home, nil
	}
	u, uerr := user.Current()
	if uerr == nil && filepath.IsAbs(u.HomeDir) {
		return u.HomeDir, nil
	}
	return "", errors.Join(errors.New("flocklock: no home directory is known; set HERMES_GATEWAY_LOCK_DIR"), err, uerr)
}

// AcquireScopedLock takes the lock of a scope and an identity in [DefaultDir],
// as the old gateways' acquire_scoped_lock did.
//
//   - acquired is true and existing nil: this process took the lock.
//   - acquired is true and existing is a record: this process had taken the
//     lock through AcquireScopedLock before; the record is the one it wrote.
//     The lock is released when ReleaseScopedLock was called as often.
//   - acquired is false and err is nil: another holds the lock; existing is its
//     record, or nil where it is not known who that is. Try again later.
//   - err is not nil: the lock could not be taken, and nobody may be connected.
//     acquired is false.
//
// A lock that this process holds through [Dir.TryAcquire] is another's here.
func AcquireScopedLock(scope, identity string, metadata map[string]any) (acquired bool, existing *Record, err error) {
	dir, err := DefaultDir()
	if err != nil {
		return false, nil, err
	}
	name, err := dir.lockName(scope, identity)
	if err != nil {
		return false, nil, err
	}
	held.dropIn.Lock()
	defer held.dropIn.Unlock()
	if l := held.find(name, dir.path(name, lockSuffix)); l != nil && l.scoped > 0 {
		l.scoped++
		record := l.Record()
		return true, &record, nil
	}
	l, err := dir.TryAcquire(scope, identity, WithMetadata(metadata), WithHermesHome(hermesHome()))
	var refused *HeldError
	switch {
	case err == nil:
		l.scoped = 1
		return true, nil, nil
	case errors.As(err, &refused) && refused.Holder.unverified():
		return false, nil, nil // the record may be that of one that ended
	case errors.As(err, &refused):
		return false, refused.Holder.Record, nil
	default:
		return false, nil, err
	}
}

// hermesHome is the gateway's home directory, where the environment says.
func hermesHome() string {
	home := strings.TrimSpace(os.Getenv("HERMES_HOME"))
	if home == "" {
		return ""
	}
	abs, err := filepath.Abs(home)
	if err != nil {
		return ""
	}
	return abs
}

// ReleaseScopedLock undoes one [AcquireScopedLock]; the last one releases the
// lock. Where this process holds no such lock it does nothing. The error is
// that of [Lock.Release].
//
// The lock is found by its name, so that an environment that has changed since
// does not leave it held.
func ReleaseScopedLock(scope, identity string) error {
	name, err := Dir(".").lockName(scope, identity)
	if err != nil {
		return err
	}
	held.dropIn.Lock()
	defer held.dropIn.Unlock()
	for _, l := range held.named(name) {
		if l.scoped == 0 {
			continue
		}
		if l.scoped > 1 {
			l.scoped--
			return nil
		}
		return l.releaseScoped()
	}
	return nil
}

// ReleaseAllScopedLocks releases the locks that this process holds through
// [AcquireScopedLock], however often it took each, and says how many those
// were. Nobody else's lock is touched.
func ReleaseAllScopedLocks() (int, error) {
	held.dropIn.Lock()
	defer held.dropIn.Unlock()
	released := 0
	var errs []error
	for _, l := range held.all() {
		if l.scoped > 0 {
			errs = append(errs, l.releaseScoped())
			if l.scoped == 0 {
				released++
			}
		}
	}
	return released, errors.Join(errs...)
}

// releaseScoped releases a lock of the drop-in, which stays one of its own
// where the system refuses that, so that it can be tried again.
func (l *Lock) releaseScoped() error {
	err := l.Release()
	if l.isReleased() {
		l.scoped = 0
	}
	return err
}
