package main

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// programWorker makes the test binary the program itself.
const programWorker = "program"

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	switch mode := os.Getenv(workerEnv); mode {
	case "":
		os.Exit(m.Run())
	case programWorker:
		os.Unsetenv(workerEnv) // its own workers have theirs
		main()
	default:
		main()
	}
}

func check(tb testing.TB, err error) {
	tb.Helper()
	var reason unmeasured
	if errors.As(err, &reason) {
		tb.Skip(reason)
	}
	if err != nil {
		tb.Fatal(err)
	}
}

// program runs the program to its end.
func program(t *testing.T, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	cmd := exec.Command(exe, args...)
	cmd.Env = append(os.Environ(), workerEnv+"="+programWorker)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// TestProgram sees that every line is there and that no contender fails. What
// it measures is of no interest: the machine may be busy.
func TestProgram(t *testing.T) {
	dir, charts := t.TempDir(), t.TempDir()
	table, stderr, err := program(t, "-quick", "-dir", dir, "-svg", charts)
	t.Log("\n" + table)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	for _, m := range measurements(quick) {
		for _, name := range m.rows {
			line := lineOf(table, lineName(m, name))
			switch {
			case line == "":
				t.Errorf("no line %q", lineName(m, name))
			case strings.Contains(line, "not measured"):
				t.Log(line)
			case strings.Contains(line, "failed") || strings.Contains(line, "not compared") || strings.Contains(line, "NaN"):
				t.Error(line)
			}
		}
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	for _, chart := range []string{handOverChart, costChart} {
		text, err := os.ReadFile(filepath.Join(charts, chart))
		if err != nil || !bytes.Contains(text, []byte("<svg")) || !bytes.Contains(text, []byte("flocklock")) {
			t.Errorf("%s is no chart: %v", chart, err)
		}
	}
}

// lineOf is the line of a table that begins with a name.
func lineOf(table, name string) string {
	for line := range strings.Lines(table) {
		if strings.HasPrefix(line, "| "+name+" ") {
			return line
		}
	}
	return ""
}

func TestProgramRefuses(t *testing.T) {
	for _, args := range [][]string{{"-run", "nothing is called so"}, {"-run", "("}, {"-nonsense"}, {"word"}, {"-dir", "does/not/exist"}} {
		if stdout, stderr, err := program(t, args...); err == nil || stderr == "" || stdout != "" {
			t.Errorf("%q: %v, says %q and %q", args, err, stdout, stderr)
		}
	}
}
