package main_test

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestRunTerminal: what is typed at a terminal reaches COMMAND once.
func TestRunTerminal(t *testing.T) {
	t.Parallel()
	master, terminal := openTerminal(t)
	cmd := flocklock(running(t.TempDir(), nil, "signals")...)
	cmd.Stdin = terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	p := start(t, cmd)
	t.Cleanup(func() { master.Close() }) // which ends COMMAND's input
	p.expect("pid ")
	// A second signal of a kind can merge with the first, so one round may not
	// show it.
	for range 10 {
		for key, sig := range map[string]string{"\x03": "SIGINT", "\x1c": "SIGQUIT"} {
			fmt.Fprint(master, key)
			p.expect(sig)
			// flocklock hands signals on one after another: this one would
			// come after a second one of the terminal's.
			p.signal(syscall.SIGUSR1)
			p.expect("SIGUSR1")
		}
	}
	fmt.Fprint(master, "\x04")
	same(t, "exit code", p.wait(), 0)
}

func openTerminal(t *testing.T) (master, terminal *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	terminal, err = os.OpenFile(fmt.Sprint("/dev/pts/", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("no pseudo-terminals: ", err)
	}
	t.Cleanup(func() { terminal.Close() })
	return master, terminal
}
