package main

import "time"

// GiveDoctor sets the time that the doctor's checks may take together.
func GiveDoctor(d time.Duration) { doctorTime = d }

// Main is the command, for the test binary to become.
var Main = main
