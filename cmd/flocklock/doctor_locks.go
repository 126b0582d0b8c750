// The locks of the directory: who holds them, what was left, and what an old
// gateway would do to them.

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/flocklock/flocklock"
)

// holders tells of locks whose holder needs attention. That a lock is held is
// nothing wrong.
func (d *doctor) holders(ctx context.Context) (findings []finding) {
	d.locks, d.listErr = d.dir.List()
	ctx, cancel := context.WithTimeout(ctx, holdersTime())
	defer cancel()
	var others []flocklock.Status // which are as they should be, as far as the record tells
	for _, s := range d.locks {
		if s.Record != nil && s.Record.Format == 0 {
			d.legacy = true
		}
		switch {
		case s.State != flocklock.Held:
		case s.Holder.Standing == flocklock.StandingVerified:
			others = append(others, s)
		default:
			findings = append(findings, d.heldBy(ctx, s))
		}
	}
	return append(findings, d.inherited(ctx, others)...)
}

// see asks the system who really holds a lock, and says whether it answered.
func (d *doctor) see(ctx context.Context, s flocklock.Status) (seen, bool) {
	type answer struct {
		holders []flocklock.Process
		err     error
	}
	told, known := bounded(ctx, func() answer {
		holders, err := d.dir.Holders(s.Name)
		return answer{holders, err}
	})
	if !known {
		told.err = errors.New("the system did not tell in time")
	}
	return seen{s, told.holders, told.err}, known
}

// heldBy is what there is to say of a lock whose record does not name a process
// that lives and goes on.
func (d *doctor) heldBy(ctx context.Context, s flocklock.Status) finding {
	f := finding{Severity: aNote, Path: filepath.Join(string(d.dir), s.Name+".flock"), What: s.String()}
	switch s.Holder.Standing {
	case flocklock.StandingStopped:
		f.ID, f.Severity = "holder-stopped", aProblem
		f.Why = "A stopped process does nothing, and keeps others from doing it."
		f.Mend = fmt.Sprint("kill -CONT ", s.Holder.Record.PID)
	case flocklock.StandingElsewhere:
		really, _ := d.see(ctx, s)
		f.ID, f.What = "holder-elsewhere", strings.Join(really.sentences(), " ")
		f.Why = "From here nobody can see whether the process of the record lives or is stopped."
		f.Mend = "Look where it runs."
	case flocklock.StandingLegacy:
		f.ID, f.Path = "holder-legacy", filepath.Join(string(d.dir), s.Name+".lock")
		f.Why = "An old gateway holds by its record alone: who removes that can start a second one."
		f.Mend = "Stop it, and start the new gateway in its place."
	default:
		really, _ := d.see(ctx, s)
		f.ID, f.Severity, f.What = "holder-unknown", aProblem, strings.Join(really.sentences(), " ")
		f.Why = "It may be a child that inherited the open file and that its parent left behind, or a program that is no gateway."
		f.Mend = d.endOthers(really)
	}
	return f
}

// endOthers says how to end who holds a lock beside the record's owner.
func (d *doctor) endOthers(s seen) string {
	for _, p := range s.holders {
		if p.PID != 0 && (s.Record == nil || p.PID != s.Record.PID) {
			return fmt.Sprintf("End %s, when you know that it is no part of a gateway that works.", p)
		}
	}
	return "End the process that holds it. flocklock doctor names it where it may look at all processes, as root may."
}

// inherited tells of locks that others hold beside the record's owner.
func (d *doctor) inherited(ctx context.Context, held []flocklock.Status) (findings []finding) {
	for i, s := range held {
		really, known := d.see(ctx, s)
		if !known {
			return append(findings, finding{
				ID: "holders-not-asked", Severity: aNote, Path: string(d.dir),
				What: fmt.Sprintf("Who else holds %d of the locks was not asked for want of time.", len(held)-i),
				Why:  "A child of their owner may have inherited one, and keep it.",
				Mend: "flocklock status names who holds a lock.",
			})
		}
		if really.asRecorded() || really.byRun() {
			continue
		}
		findings = append(findings, finding{
			ID: "holder-inherited", Severity: aNote, Path: filepath.Join(string(d.dir), s.Name+".flock"),
			What: strings.Join(really.sentences(), " "),
			Why:  "Who inherited the open file keeps the lock when the record's owner has ended.",
			Mend: d.endOthers(really),
		})
	}
	return findings
}

// byRun reports whether flocklock run holds a lock beside its COMMAND. Of
// run --exec it is no longer the process.
func (s seen) byRun() bool {
	return slices.ContainsFunc(s.holders, func(p flocklock.Process) bool {
		return p.PID == s.Record.PID && len(p.Argv) > 1 && strings.HasPrefix(filepath.Base(p.Argv[0]), "flocklock") && p.Argv[1] == "run"
	})
}

// files looks at each file, and mends what can be mended.
func (d *doctor) files(context.Context) []finding {
	unreadable := d.unreadable()
	left, err := d.leftovers()
	var known []string
	for i, f := range unreadable {
		if _, err := os.Lstat(f.Path); errors.Is(err, fs.ErrNotExist) {
			unreadable[i].Fixed = d.fix // the migrator has removed it
		}
		known = append(known, f.Path)
	}
	return slices.Concat(unreadable, d.unusable(errors.Join(d.listErr, err), known), left, d.oldScratch())
}

// unusable makes findings of the errors about files. What is known of already
// is not told again.
func (d *doctor) unusable(err error, known []string) (findings []finding) {
	for _, err := range each(err) {
		path := string(d.dir)
		var at *fs.PathError
		if errors.As(err, &at) {
			path = at.Path
		}
		if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
			path = string(d.dir) // where it cannot be made
		}
		if slices.Contains(known, path) {
			continue
		}
		known = append(known, path)
		f := finding{
			ID: "file-unusable", Severity: aProblem, Path: path,
			What: "It cannot be used: " + firstLine(err) + ".",
			Why:  "The lock that it belongs to cannot be taken or judged.",
			Mend: "mv " + shellWord(path) + " to another directory, when you know who made it.",
		}
		if errors.Is(err, fs.ErrPermission) {
			f.Mend = "Let the user of the gateway read it, or run all gateways as the user that it belongs to."
		}
		findings = append(findings, f)
	}
	return findings
}

// each takes joined errors apart.
func each(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, err := range joined.Unwrap() {
			all = append(all, each(err)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return []error{err}
}

// leftovers tells what the migrator does, or with --fix has done.
func (d *doctor) leftovers() (findings []finding, err error) {
	report, err := d.dir.Migrate(flocklock.MigrateOptions{DryRun: !d.fix})
	var removed, converted []flocklock.Migrated
	for _, m := range report {
		if strings.HasSuffix(m.Name, ".lock.stale") {
			d.legacy = true
		}
		switch m.Action {
		case flocklock.Removed:
			removed = append(removed, m)
		case flocklock.Converted:
			converted, d.legacy = append(converted, m), true
		case flocklock.Kept:
			findings = append(findings, d.notRecord(m)...)
		}
	}
	if len(removed) > 0 {
		findings = append(findings, finding{
			ID: "leftovers", Severity: aNote, Path: d.common(removed),
			What: "Left over by processes that ended: " + namesOf(removed) + ".",
			Why:  "The next gateway puts its record in place of a stale one; until then people and old gateways take it for a lock.",
			Mend: d.fixCommand(), Fixed: d.fix,
		})
	}
	if len(converted) > 0 {
		findings = append(findings, finding{
			ID: "records-incomplete", Severity: aNote, Path: d.common(converted),
			What: "Records of old gateways that live do not tell when these began: " + namesOf(converted) + ".",
			Why:  "Once such a gateway has ended and its PID is given to another process, the record would block the lock.",
			Mend: d.fixCommand(), Fixed: d.fix,
		})
	}
	return findings, err
}

// notRecord tells of a directory in a record's place, which nobody removes.
func (d *doctor) notRecord(m flocklock.Migrated) []finding {
	path := filepath.Join(string(d.dir), m.Name)
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() || !strings.HasSuffix(m.Name, ".lock") {
		return nil
	}
	return []finding{{
		ID: "record-is-directory", Severity: aProblem, Path: path,
		What: "A directory stands where a record should.",
		Why:  "The lock can be taken, but nobody can see by whom, and old gateways do not see it at all.",
		Mend: "mv " + shellWord(path) + " to another directory, when you know who made it.",
	}}
}

// common is the path of one file, or of the directory of several.
func (d *doctor) common(files []flocklock.Migrated) string {
	if len(files) == 1 {
		return filepath.Join(string(d.dir), files[0].Name)
	}
	return string(d.dir)
}

// namesOf names the first files, and of a single one the reason too.
func namesOf(files []flocklock.Migrated) string {
	const most = 3
	if len(files) == 1 {
		return files[0].Name + " (" + files[0].Reason + ")"
	}
	var names []string
	for _, m := range files[:min(most, len(files))] {
		names = append(names, m.Name)
	}
	list := strings.Join(names, ", ")
	if len(files) > most {
		list += fmt.Sprintf(" and %d more", len(files)-most)
	}
	return list
}

// oldGateways tells of locks that the newest old gateways would take from their
// holder, for they judge it by its command line, one for each holder. Without a
// trace of an old gateway there is nobody to do so.
func (d *doctor) oldGateways(ctx context.Context) (findings []finding) {
	var holders []flocklock.Status
	for _, s := range d.locks {
		if s.Holder.Standing == flocklock.StandingVerified || s.Holder.Standing == flocklock.StandingStopped {
			holders = append(holders, s)
		}
	}
	if len(holders) == 0 {
		return nil
	}
	running := commandLines(ctx)
	trace := d.trace(running, holders)
	if trace == "" {
		return nil
	}
	var told []int
	for _, s := range holders {
		if slices.Contains(told, s.Record.PID) {
			continue
		}
		told = append(told, s.Record.PID)
		argv := running[s.Record.PID]
		if len(argv) == 0 {
			argv = s.Record.Argv
		}
		if flocklock.LooksLikeGateway(argv) {
			continue
		}
		findings = append(findings, finding{
			ID: "command-line-not-gateway", Severity: aProblem, Path: filepath.Join(string(d.dir), s.Name+".lock"),
			What: s.String() + " Its command line is not a gateway's, and " + trace + ".",
			Why:  "The newest old gateways take the record of such a process for stale: they would start beside it.",
			Mend: "Install the gateway as hermes-gateway (with flocklock run --exec, such a COMMAND), or stop all old gateways.",
		})
	}
	return findings
}

// trace says how it is known that there are old gateways here.
func (d *doctor) trace(running map[int][]string, holders []flocklock.Status) string {
	ours := []int{os.Getpid(), os.Getppid()}
	for _, s := range holders {
		ours = append(ours, s.Record.PID)
	}
	for pid, argv := range running {
		if flocklock.LooksLikeGateway(argv) && !slices.Contains(ours, pid) {
			return fmt.Sprintf("an old gateway may be running (PID %d)", pid)
		}
	}
	if d.legacy {
		return "old gateways have left files here"
	}
	return ""
}
