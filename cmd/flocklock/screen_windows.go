package main

import (
	"os"

	"golang.org/x/sys/windows"
)

// allowEscapes makes a console heed escape sequences, and reports whether it
// can.
func allowEscapes(console *os.File) bool {
	handle := windows.Handle(console.Fd())
	var mode uint32
	if windows.GetConsoleMode(handle, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(handle, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
