//go:build linux

package chaos

// The operations that faults befall, and what each finds in its directory.

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/flocklock/flocklock"
)

// An operation is what a worker does.
type operation struct {
	what    string
	command func(flocklock.Dir) *exec.Cmd
	arrange func(*scene) error
	lacks   []string // the calls that the file system does not have
	alone   bool     // nobody else holds the lock, or owns its record

	// spares reports whether a fault says what cannot be; nil: none does.
	spares func(fault) bool
}

// A scene is one run of an operation: its directory, and who else is there.
type scene struct {
	dir flocklock.Dir

	// meanwhile runs while the worker is at work.
	meanwhile func(*proc) error

	// leave ends who else holds the lock, after a look whether it still does.
	// holds says that the worker has it, so that nobody else may.
	leave func(holds bool) error

	// after looks at what the faults must have spared, once a new process has
	// acquired, released and migrated.
	after func() error

	spared []string // the files that may stay
}

// props is what all scenes share.
type props struct {
	left    []byte // the record of a killed holder
	gateway *proc  // looks like an old gateway and holds nothing
	command string // the program flocklock
}

// nobody is a PID above all that Linux gives (PID_MAX_LIMIT). That of a process
// which has ended may be given to another gateway of these tests.
const nobody = 1 << 22

func nothing(*scene) error { return nil }

func does(mode string) func(flocklock.Dir) *exec.Cmd {
	return func(dir flocklock.Dir) *exec.Cmd { return worker(mode, dir) }
}

func (p *props) operations() []operation {
	stale := func(s *scene) error { return s.putLegacy(name, nobody) }
	return []operation{
		{what: "acquire", alone: true, command: does("acquire"), arrange: func(s *scene) error { s.dir += "/new"; return nil }},
		{what: "acquire over a killed holder's record", alone: true, command: does("acquire"), arrange: p.leaveRecord},
		{what: "acquire over a stale legacy record", alone: true, command: does("acquire"), arrange: stale},
		{what: "the same without an exchange", alone: true, command: does("acquire"), arrange: stale, lacks: []string{"renameat2"}},
		{what: "acquire refused", command: does("acquire"), arrange: refused},
		{what: "acquire refused by an old gateway", command: does("acquire"), arrange: p.refusedByGateway},
		{what: "the same, its record left at .tmp", command: does("acquire"), arrange: p.leftAt(".tmp"), spares: deniesLeft},
		{what: "the same, left at .old, no exchange", command: does("acquire"), arrange: p.leftAt(".old"), lacks: []string{"renameat2"}, spares: deniesLeft},
		{what: "release", alone: true, command: does("release"), arrange: nothing},
		{what: "check, record removed", alone: true, command: does("check"), arrange: nothing},
		{what: "migrate", command: does("migrate"), arrange: p.litter},
		{what: "migrate without an exchange", command: does("migrate"), arrange: p.litter, lacks: []string{"renameat2"}},
		{what: "take over", command: does("take-over"), arrange: ousted},
		{what: "wait and be handed over to", command: does("wait"), arrange: handedOver},
		{what: "flocklock run", alone: true, command: p.run, arrange: nothing},
	}
}

// run is the command, with a COMMAND that reports and ends as a worker does.
func (p *props) run(dir flocklock.Dir) *exec.Cmd {
	cmd := exec.Command(p.command, "run", "--dir", string(dir), "--scope", scope, "--identity-env", "BOT_TOKEN",
		"--", "/bin/sh", "-c", `echo '{"Holds":true}'; read line; exit 0`)
	cmd.Env = append(os.Environ(), "BOT_TOKEN="+secret)
	return cmd
}

func (s *scene) path(base string) string { return filepath.Join(string(s.dir), base) }

// files are all that an operation may touch.
func (s *scene) files() []string {
	files := []string{string(s.dir), s.path(beginMark), s.path(endMark)}
	for _, lock := range []string{name, other} {
		files = append(files, s.path(lock+".flock"), s.path(lock+".lock"), s.path(lock+".lock.stale"),
			s.path("."+lock+".tmp"), s.path("."+lock+".old"))
	}
	return files
}

func (p *props) leaveRecord(s *scene) error {
	return errors.Join(os.WriteFile(s.path(name+".flock"), nil, 0o644), os.WriteFile(s.path(name+".lock"), p.left, 0o644))
}

// putLegacy writes the record of an old gateway that did not tell its start.
func (s *scene) putLegacy(lock string, pid int) error {
	i := strings.LastIndex(lock, "-")
	text, err := json.Marshal(map[string]any{
		"pid": pid, "kind": "hermes-gateway", "argv": []string{"hermes", "gateway", "run"}, "start_time": nil,
		"scope": lock[:i], "identity_hash": lock[i+1:], "metadata": map[string]any{},
		"updated_at": time.Now().UTC().Format("2006-01-02T15:04:05.000000+00:00"),
	})
	if err != nil {
		return err
	}
	return os.WriteFile(s.path(lock+".lock"), text, 0o644)
}

// refused lets this process hold the lock.
func refused(s *scene) error {
	lock, err := s.dir.TryAcquire(scope, secret)
	if err != nil {
		return err
	}
	s.leave = func(holds bool) error {
		err := lock.Check()
		if holds {
			err = errors.Join(err, errors.New("it was given away while this process held it"))
		}
		return errors.Join(err, lock.Release())
	}
	return nil
}

// refusedByGateway lets an old gateway hold the lock, until its record goes.
func (p *props) refusedByGateway(s *scene) error {
	if err := s.putLegacy(name, p.gateway.cmd.Process.Pid); err != nil {
		return err
	}
	s.leave = func(holds bool) error {
		if holds {
			return errors.New("it was given away while an old gateway held it")
		}
		return errors.Join(p.mustOwn(s, name), os.Remove(s.path(name+".lock")))
	}
	return nil
}

// leftAt lets an old gateway hold the lock while a crash has left its record
// beside the record's path.
func (p *props) leftAt(suffix string) func(*scene) error {
	return func(s *scene) error {
		return errors.Join(p.refusedByGateway(s),
			os.WriteFile(s.path("."+name+".tmp"), p.left, 0o644), // there is one whenever there is one aside
			os.Rename(s.path(name+".lock"), s.path("."+name+suffix)))
	}
}

// deniesLeft reports whether a fault says of a record that was left aside that it
// is not there, or may not be read. Such a one is taken for root's own leftover,
// for old gateways' records are for all to read.
func deniesLeft(f fault) bool {
	looks := f.call == "newfstatat" || f.call == "openat" && strings.Contains(f.text, "O_RDONLY")
	aside := strings.Contains(f.text, ".tmp\"") || strings.Contains(f.text, ".old\"")
	return looks && aside && slices.Contains([]string{"ENOENT", "EACCES", "EPERM"}, f.what)
}

// mustOwn sees whether the living old gateway still has a lock. A crash may have
// left its record aside, from where the next acquire puts it back.
func (p *props) mustOwn(s *scene, lock string) error {
	l, err := s.dir.TryAcquire(lock[:strings.LastIndex(lock, "-")], secret)
	if l != nil {
		return errors.Join(fmt.Errorf("the lock %s of an old gateway was given away", lock), l.Release())
	}
	if !errors.Is(err, flocklock.ErrHeld) {
		return err
	}
	text, err := os.ReadFile(s.path(lock + ".lock"))
	if err != nil {
		return err
	}
	var record flocklock.Record
	if err := record.UnmarshalJSON(text); err != nil || record.PID != p.gateway.cmd.Process.Pid || record.Format != 0 {
		return fmt.Errorf("the record of an old gateway is %s: %w", text, err)
	}
	return nil
}

// litter leaves something of every kind for migrate: a stale record, the record
// of an old gateway that lives, an old tombstone, and our own files.
func (p *props) litter(s *scene) error {
	long := time.Now().Add(-time.Hour)
	tombstone := s.path(name + ".lock.stale")
	s.spared = []string{other + ".flock", other + ".lock"}
	s.leave = func(bool) error { return p.mustOwn(s, other) }
	s.after = func() error { return p.mustOwn(s, other) }
	return errors.Join(
		s.putLegacy(name, nobody),
		s.putLegacy(other, p.gateway.cmd.Process.Pid),
		os.WriteFile(tombstone, p.left, 0o644), os.Chtimes(tombstone, long, long),
		os.WriteFile(s.path("."+name+".tmp"), p.left[:len(p.left)/2], 0o644),
		os.WriteFile(s.path("."+other+".old"), p.left, 0o644),
	)
}

// ousted lets a process hold the lock that is to be taken over.
func ousted(s *scene) error {
	holder, err := start(worker("acquire", s.dir))
	if err != nil {
		return err
	}
	if r, ended, err := holder.report(); err != nil || ended || !r.Holds || r.Error != "" || r.Record != "" {
		holder.kill()
		return fmt.Errorf("the holder does not hold: %+v, %w", r, err)
	}
	s.leave = func(holds bool) error {
		defer holder.kill()
		if !holds {
			return nil // it may have been ended all the same
		}
		// Its end is known by the end of its output.
		if _, ended, err := holder.report(); err != nil || !ended {
			return fmt.Errorf("two hold it: %w", err)
		}
		return nil
	}
	return nil
}

// handedOver lets this process hold the lock until somebody waits for it.
func handedOver(s *scene) error {
	lock, err := s.dir.TryAcquire(scope, secret)
	if err != nil {
		return err
	}
	s.meanwhile = func(p *proc) error {
		return errors.Join(awaitWaiter(p, lock.Path()), lock.Release())
	}
	return nil
}

// awaitWaiter waits until the kernel has somebody wait for a lock, or the worker
// has said or done what it does without waiting.
func awaitWaiter(p *proc, path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	file := fmt.Sprintf(":%d 0 EOF", info.Sys().(*syscall.Stat_t).Ino)
	for deadline := time.Now().Add(hang); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		select {
		case <-p.said:
			return nil
		default:
		}
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> FLOCK") && strings.Contains(line, file) {
				return nil
			}
		}
	}
	return errSilent
}
