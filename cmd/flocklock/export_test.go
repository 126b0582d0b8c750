package main

// Main is the command, for the test binary to become.
var Main = main
