package main_test

import (
	"strings"
	"testing"
)

// TestRunParentKilled: COMMAND cannot keep the lock, so it ends.
func TestRunParentKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := hold(t, dir)
	p.cmd.Process.Kill()
	if line, more := p.hear(); more {
		t.Errorf("COMMAND says %q", line)
	}
	p.wait()
	until(t, "the lock is free", func() bool { return state(t, dir) == "free" })
}

// TestRunClose: COMMAND never has the lock here, and ends all the same.
func TestRunClose(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := hold(t, dir, "--close")
	p.cmd.Process.Kill()
	if line, more := p.hear(); more {
		t.Errorf("COMMAND says %q", line)
	}
	p.wait()
	until(t, "the lock is free", func() bool { return state(t, dir) == "free" })
}

func TestRunExec(t *testing.T) {
	t.Parallel()
	r := expect(t, 64, running(t.TempDir(), []string{"--exec"}, "echo")...)
	if !strings.Contains(r.stderr, "--exec") {
		t.Errorf("stderr: %s", r.stderr)
	}
}
