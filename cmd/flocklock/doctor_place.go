// Which directory it is, and which others the same gateway could use.

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

// A place is the lock directory and why it is that one.
type place struct {
	dir    flocklock.Dir
	reason string
	asked  bool // the command line named it
}

// resolve finds the directory as the other subcommands do, and says why it is
// that one.
func resolve(cmd *cobra.Command) (p place, err error) {
	if p.dir, err = lockDir(cmd); err != nil {
		return p, err
	}
	if p.dir == "" {
		return p, usage("the value of --dir is empty")
	}
	abs, err := filepath.Abs(string(p.dir))
	if err != nil {
		return p, &exitError{exitNoInput, err}
	}
	p.dir = flocklock.Dir(abs)
	state, set := os.LookupEnv("XDG_STATE_HOME")
	switch {
	case cmd.Flag("dir").Changed:
		p.reason, p.asked = "--dir names it", true
	case os.Getenv("HERMES_GATEWAY_LOCK_DIR") != "":
		p.reason = "HERMES_GATEWAY_LOCK_DIR names it"
	case filepath.IsAbs(state):
		p.reason = "it is below XDG_STATE_HOME"
	case set:
		p.reason = "it is below the home directory, for XDG_STATE_HOME is not an absolute path"
	default:
		p.reason = "it is below the home directory, for neither HERMES_GATEWAY_LOCK_DIR nor XDG_STATE_HOME is set"
	}
	return p, nil
}

// A candidate is a directory that a gateway could use, and when it would.
type candidate struct {
	dir    string
	when   string
	remote bool // nothing hints at such a gateway but that it could be
}

// candidates are the directories that a gateway of this machine uses under
// another environment.
func candidates() (all []candidate) {
	add := func(state, when string) {
		if filepath.IsAbs(state) {
			all = append(all, candidate{dir: filepath.Join(state, "hermes", "gateway-locks"), when: when})
		}
	}
	below := func(home, when string) { add(filepath.Join(home, ".local", "state"), when) }
	if dir := os.Getenv("HERMES_GATEWAY_LOCK_DIR"); dir != "" {
		if abs, err := filepath.Abs(dir); err == nil {
			all = append(all, candidate{dir: abs, when: "without --dir"})
		}
	}
	if state, set := os.LookupEnv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		add(state, "without HERMES_GATEWAY_LOCK_DIR")
	} else if abs, err := filepath.Abs(state); set && err == nil {
		add(abs, "when it is an old one and starts here, by this XDG_STATE_HOME")
	}
	if home, err := os.UserHomeDir(); err == nil {
		below(home, "where XDG_STATE_HOME is not set")
	}
	if u, err := user.Current(); err == nil {
		below(u.HomeDir, "as a service of this user")
	}
	if name := os.Getenv("SUDO_USER"); name != "" {
		if u, err := user.Lookup(name); err == nil {
			below(u.HomeDir, "started by "+name+" without sudo")
		}
	}
	sure := len(all)
	if root, err := user.LookupId("0"); err == nil {
		below(root.HomeDir, "as a service of root, or by sudo")
	}
	for _, home := range otherHomes() {
		below(home.dir, "run by "+home.user)
	}
	for i := range all[sure:] {
		all[sure+i].remote = true
	}
	return all
}

// A home is a user's home directory.
type home struct{ user, dir string }

// otherHomes are the home directories of the users and services that this
// system has, as far as its files tell.
func otherHomes() (all []home) {
	passwd, _ := os.ReadFile("/etc/passwd")
	for line := range strings.Lines(string(passwd)) {
		const name, dir = 0, 5 // as passwd(5) has them
		if fields := strings.Split(line, ":"); len(fields) > dir {
			all = append(all, home{fields[name], fields[dir]})
		}
	}
	around := []string{"/home", "/Users"}
	if own, err := os.UserHomeDir(); err == nil && filepath.Dir(own) != string(filepath.Separator) {
		around = append(around, filepath.Dir(own))
	}
	if system := os.Getenv("SystemRoot"); system != "" {
		around = append(around, filepath.Join(system, "ServiceProfiles"))
		all = append(all, home{"SYSTEM", filepath.Join(system, "System32", "config", "systemprofile")})
	}
	for _, dir := range around {
		entries, _ := os.ReadDir(dir)
		for _, entry := range entries {
			all = append(all, home{entry.Name(), filepath.Join(dir, entry.Name())})
		}
	}
	return all
}

// elsewhere looks for directories which the same gateway could use without
// knowing of this one.
func (d *doctor) elsewhere(context.Context) (findings []finding) {
	if state, set := os.LookupEnv("XDG_STATE_HOME"); set && !filepath.IsAbs(state) && !d.asked && os.Getenv("HERMES_GATEWAY_LOCK_DIR") == "" {
		findings = append(findings, finding{
			ID: "xdg-state-home", Severity: aProblem, Path: string(d.dir),
			What: fmt.Sprintf("XDG_STATE_HOME is %q, which is not an absolute path and is ignored.", state),
			Why:  "Old gateways take it for a path below their working directory, where no new one looks.",
			Mend: "unset XDG_STATE_HOME, or " + d.setting(),
		})
	}
	ours, err := os.Stat(string(d.dir))
	if err != nil {
		ours = nil
	}
	var seen []string
	for _, c := range candidates() {
		info, err := os.Stat(c.dir)
		if slices.Contains(seen, c.dir) || c.dir == string(d.dir) || err == nil && (!info.IsDir() || os.SameFile(info, ours)) {
			continue
		}
		seen = append(seen, c.dir)
		switch {
		case err == nil:
			findings = append(findings, d.other(c))
		case errors.Is(err, fs.ErrPermission) && !c.remote:
			findings = append(findings, finding{
				ID: "directory-elsewhere", Severity: aNote, Path: c.dir,
				What: "Whether this directory exists cannot be seen; a gateway uses it " + c.when + ".",
				Why:  whyElsewhere, Mend: d.setting(),
			})
		}
	}
	return findings
}

const whyElsewhere = "Gateways with different lock directories do not exclude each other, and nothing says so."

func (d *doctor) setting() string {
	return "for services and shells alike, HERMES_GATEWAY_LOCK_DIR=" + shellWord(string(d.dir))
}

// other is the finding that another directory exists. It is a problem where the
// same lock as one of ours is held there.
func (d *doctor) other(c candidate) finding {
	f := finding{
		ID: "directory-elsewhere", Severity: aNote, Path: c.dir,
		What: "Another lock directory exists; a gateway uses it " + c.when + ".",
		Why:  whyElsewhere, Mend: d.setting(),
	}
	locks, err := flocklock.Dir(c.dir).List()
	if err != nil {
		f.What += " Not all in it can be seen: " + firstLine(err) + "."
	}
	locks = slices.DeleteFunc(locks, func(s flocklock.Status) bool { return s.State != flocklock.Held })
	shared := slices.IndexFunc(locks, func(s flocklock.Status) bool { return d.knows(s.Name) })
	switch {
	case shared >= 0:
		f.Severity = aProblem
		f.What += " The same lock as here is held there: " + locks[shared].String()
	case len(locks) > 0:
		f.What += " A lock is held there: " + locks[0].String()
	}
	return f
}

// knows reports whether the directory has, or had, a lock of this name.
func (d *doctor) knows(name string) bool {
	for _, suffix := range []string{".flock", ".lock"} {
		if _, err := os.Lstat(filepath.Join(string(d.dir), name+suffix)); err == nil {
			return true
		}
	}
	return false
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
