package main

const clockMonotonic = 3 // sys/time.h; x/sys/unix lacks it
