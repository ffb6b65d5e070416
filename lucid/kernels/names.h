// Names made of macros: what they stand for as a text, and two as one name.
#pragma once

#define LUCID_TEXT_(x) #x
#define LUCID_TEXT(x) LUCID_TEXT_(x)
#define LUCID_PASTE_(a, b) a##b
#define LUCID_PASTE(a, b) LUCID_PASTE_(a, b)
