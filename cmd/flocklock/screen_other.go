//go:build !windows

package main

import "os"

// allowEscapes reports whether a terminal heeds escape sequences.
func allowEscapes(*os.File) bool { return true }
