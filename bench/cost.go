// What an operation costs that need not wait: the contenders run in turns of
// a few milliseconds, in random order, so that a noisy machine disturbs them
// alike.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const turnLength = 2 * time.Millisecond

func acquireAndRelease() measurement {
	return measurement{
		name: "acquire+release",
		rows: namesOf(acquirers),
		limits: []limit{
			{"bare calls", "flocklock", median, atMost, 1.3},
			{"bare calls, looks", "flocklock", median, atMost, 1.3},
			{"nightlyone", "flocklock", median, below, 1},
		},
		measure: func(s *setting, rows []string) []row {
			return inTurns(s.dir, named(acquirers, rows), s.turns, turnLength)
		},
	}
}

func refusal() measurement {
	return measurement{
		name:   "refused try",
		rows:   namesOf(refusers),
		limits: []limit{{"gofrs + record", "flocklock", median, atMost, 3}},
		measure: func(s *setting, rows []string) []row {
			return inTurns(s.dir, named(refusers, rows), s.turns, turnLength)
		},
	}
}

func startUp() measurement {
	return measurement{
		name:   "start-up",
		rows:   namesOf(commands),
		limits: []limit{{"flock(1)", "flocklock run", median, atMost, 2.5}},
		measure: func(s *setting, rows []string) []row {
			return inTurns(s.dir, named(commands, rows), s.starts, 0)
		},
	}
}

// inTurns gives each contender this many turns of about this length, and notes
// how long each of its operations took.
func inTurns(dir string, contenders []contender, turns int, length time.Duration) []row {
	var c crew
	defer c.dismiss()
	rows := make([]row, len(contenders))
	operations := make([]func() error, len(contenders))
	for i, contender := range contenders {
		rows[i] = row{name: contender.name, unit: seconds}
		operations[i], rows[i].err = contender.prepare(&c, dir)
		if rows[i].err == nil {
			rows[i].err = operations[i]() // makes what the later ones find
		}
	}
	for range turns {
		for _, i := range rand.Perm(len(rows)) {
			if rows[i].err == nil {
				rows[i].err = turn(&rows[i], operations[i], length)
			}
		}
	}
	return rows
}

func turn(r *row, operation func() error, length time.Duration) error {
	start := time.Now()
	end := start.Add(length)
	for {
		if err := operation(); err != nil {
			return err
		}
		now := time.Now()
		r.values = append(r.values, now.Sub(start).Seconds())
		if !now.Before(end) {
			return nil
		}
		start = now
	}
}

// commands run a command that does nothing, with a lock.
var commands = []contender{
	{"flocklock run", func(_ *crew, dir string) (func() error, error) {
		nothing, err := commandThatDoesNothing()
		if err != nil {
			return nil, err
		}
		program, err := buildCommand(dir)
		if err != nil {
			return nil, err
		}
		identity := filepath.Join(dir, "identity")
		if err := os.WriteFile(identity, []byte(secret), 0o600); err != nil {
			return nil, err
		}
		return runs(program, "run", "--dir", dir, "--scope", "s", "--identity-file", identity, "--", nothing), nil
	}},
	{"flock(1)", func(_ *crew, dir string) (func() error, error) {
		nothing, err := commandThatDoesNothing()
		if err != nil {
			return nil, err
		}
		program, err := exec.LookPath("flock")
		if err != nil {
			return nil, unmeasured("flock(1) of util-linux is not installed")
		}
		return runs(program, filepath.Join(dir, "flock.flock"), nothing), nil
	}},
}

func commandThatDoesNothing() (string, error) {
	path, err := exec.LookPath("true")
	if err != nil {
		return "", unmeasured("true(1) is not installed")
	}
	return path, nil
}

// runs returns a run of a command.
func runs(program string, args ...string) func() error {
	return func() error {
		cmd := exec.Command(program, args...)
		var said bytes.Buffer
		cmd.Stderr = &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, &said)
		}
		return nil
	}
}

// buildCommand builds the command flocklock in a directory.
func buildCommand(dir string) (program string, err error) {
	const module = "github.com/flocklock/flocklock"
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	if errors.Is(err, exec.ErrNotFound) {
		return "", unmeasured("there is no go to build flocklock with")
	} else if err != nil {
		return "", fmt.Errorf("go list -m %s, from the folder of the repository: %w", module, err)
	}
	program = filepath.Join(dir, "flocklock.exe")
	build := exec.Command("go", "build", "-o", program, "./cmd/flocklock")
	build.Dir = strings.TrimSpace(string(root))
	build.Env = append(os.Environ(), "CGO_ENABLED=0") // as the README says
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w: %s", err, said)
	}
	return program, nil
}
