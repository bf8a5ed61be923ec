"""Everyday and business English: words that stand for the same thing, a group in each line.

A question rarely uses the words of its answer ("revenue" is asked for, "royalty" is written). A small list
of common words closes a part of that gap at no cost; it is general language, not tuned to any text.
A word may be in several groups. English only: other languages are matched by their own words.
"""

SAME = """
buy purchase procure acquire order
sell sale vend resell distribute
pay payment fee charge compensation remuneration
price cost rate fee charge
revenue income profit earnings royalty proceeds sales commission
share split portion percentage
money cash fund finance budget
job work career employment occupation profession
fire dismiss layoff terminate
terminate cancel end expire cease rescind discontinue
start begin commence launch initiate effective
term duration period length
renew extend extension prolong
limit cap maximum restrict ceiling exceed
minimum least floor guarantee
exclusive sole only exclusively
forbid prohibit restrict refrain ban
compete competitor competitive rival
assign transfer delegate convey
license permit authorize grant sublicense right
allow permit authorize consent approve approval
notice notify inform written
liable liability damages responsible indemnify
warranty guarantee warrant defect
insurance insure coverage policy
audit inspect examine records books
own owner ownership title property belong
invent invention create creation develop
copyright patent trademark intellectual
merger acquisition control takeover
sue claim lawsuit litigation action contest challenge
law jurisdiction govern court
disparage defame criticize harm reputation
solicit recruit hire employ
employee staff worker personnel
company firm business corporation enterprise
contract agreement deal
client customer buyer
supplier vendor seller provider
meeting appointment call
meet met encounter introduce
photo picture image pic photograph
movie film cinema show
book novel read story
song music tune band concert
sing singer vocal
paint painting art draw sketch
child kid son daughter baby
mother mom mum parent
father dad parent
wife husband spouse married marry wedding partner
boyfriend girlfriend date dating relationship
friend buddy pal mate
pet dog puppy cat kitten
doctor physician hospital clinic medical
sick ill illness disease health
injury injure hurt wound pain
food meal dish eat cook recipe dinner lunch
drink beverage coffee tea
house home apartment flat residence
live reside stay move
city town place
country nation abroad
trip travel vacation holiday journey tour visit
car vehicle auto drive
plane flight airline fly
exercise workout gym fitness run
game play gaming
sport team match tournament championship
win winner victory won prize award trophy
hobby interest activity pastime
class course lesson study learn
school college university education degree
teach teacher instruct professor
happy glad joy excited
sad upset unhappy depressed
afraid fear scared worry anxious nervous
angry mad annoyed
stress stressed destress relax unwind calm
love like enjoy favorite prefer
plan intend goal aim hope
try attempt
help assist support aid
volunteer charity donate donation community
church faith religion religious
nature outdoors hike hiking camp camping
beach ocean sea
mountain hill peak
tree forest wood plant flower garden
gift present
party celebration celebrate birthday
phone mobile call
email mail message
computer laptop pc
program software code app application
error bug failure fault exception crash
fix repair solve resolve
delete remove erase
change modify update alter amend edit
add append insert include
find search look locate
show display present
big large huge
small little tiny
quick fast rapid
old ancient age
new recent latest
die death dead died pass
born birth birthday
kill murder
author writer write wrote written
actor actress star performer cast
director direct
found founder establish founded create
near close border adjacent neighbor
capital city
river stream lake
war battle fight conflict
king queen ruler monarch emperor
president leader chief head
region state province territory area
language speak spoken
population inhabitants people
reservation booking book
refund reimburse return
luggage baggage bag
seat cabin class
""".strip().splitlines()
