package flocklock

var ParseLsof = parseLsof
