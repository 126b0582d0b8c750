//go:build race

package main_test

func init() { raceDetector = true }
