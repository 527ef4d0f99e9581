-- Which attempt to begin the session a row stands for: what is said late of an earlier one changes nothing.
-- Rows of a program from before this column have none, or one that is over; it is theirs by their process.
ALTER TABLE starts ADD COLUMN attempt TEXT;
